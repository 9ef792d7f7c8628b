//! The account at the authority: made once, kept, made anew if the authority has lost it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use instant_acme::{Account, Error, ExternalAccountKey, NewAccount};
use url::Url;

use crate::client::{Client, Http};
use crate::store::Store;

/// External account binding (RFC 8555 §7.3.4): who pays for the certificates.
#[derive(Clone)]
pub struct Binding {
    id: String,
    key: Vec<u8>,
}

impl Binding {
    /// The identifier and the key (base64url) that the authority gave.
    pub fn new(id: &str, key: &str) -> Result<Self, String> {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let key = URL_SAFE_NO_PAD.decode(key.trim().trim_end_matches('='));
        let key = key.ok().filter(|key| !key.is_empty()).ok_or("it is not base64url")?;
        Ok(Self { id: id.to_owned(), key })
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where the terms are that an account agrees to, if the authority has any.
pub async fn terms_of_service(http: &dyn Http, directory: &Url) -> Option<String> {
    let request = http::Request::get(directory.as_str()).body(Bytes::new()).ok()?;
    let answer = http.send(request).await.ok()?;
    let directory: serde_json::Value = serde_json::from_slice(answer.body()).ok()?;
    directory["meta"]["termsOfService"].as_str().map(str::to_owned)
}

/// Opens the account that is kept, or makes one.
pub(crate) async fn open(
    http: &Arc<dyn Http>,
    directory: &Url,
    contact: &[String],
    binding: Option<&Binding>,
    store: &Store,
) -> Result<Account, Error> {
    let client = Client { http: http.clone(), only_tls: directory.scheme() == "https" };
    let builder = Account::builder_with_http(Box::new(client));
    let other = |text: String| Error::Other(text.into());
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    if let Some(kept) = store.account().map_err(other)? {
        let account = builder.from_credentials(kept.credentials).await?;
        if kept.contact != contact {
            // No reason to be without certificates.
            if let Err(error) = change_contacts(&account, contact, store).await {
                tracing::warn!(%error, "the ACME authority has not taken the new contact");
            }
        }
        return Ok(account);
    }
    let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let key = binding.map(|binding| ExternalAccountKey::new(binding.id.clone(), &binding.key));
    let (account, credentials) = builder.create(&new, directory.to_string(), key.as_ref()).await?;
    keep(store, contact, credentials).await.map_err(other)?;
    tracing::info!(directory = directory.as_str(), account = account.id(), "an ACME account was made");
    Ok(account)
}

async fn change_contacts(account: &Account, contact: &[String], store: &Store) -> Result<(), Error> {
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    account.update_contacts(&contacts).await?;
    let other = |text: String| Error::Other(text.into());
    // Credentials can be written once for each time that they were read.
    match store.account().map_err(other)? {
        Some(again) => keep(store, contact, again.credentials).await.map_err(other),
        None => Ok(()),
    }
}

async fn keep(
    store: &Store,
    contact: &[String],
    credentials: instant_acme::AccountCredentials,
) -> Result<(), String> {
    let (store, contact) = (store.clone(), contact.to_vec());
    let kept = tokio::task::spawn_blocking(move || store.keep_account(&contact, credentials)).await;
    kept.map_err(|e| e.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bindings_key_is_never_shown() {
        let binding = Binding::new("kid-1", "c2VjcmV0LWtleQ==\n").unwrap();
        assert_eq!(binding.key, b"secret-key");
        assert_eq!(format!("{binding:?}"), "Binding { id: \"kid-1\", .. }");
        assert!(Binding::new("kid-1", "not base64!").is_err() && Binding::new("kid-1", " ").is_err());
    }
}
