//! One order: from a name to a certificate (RFC 8555 §7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::challenges::{Challenges, Published};
use crate::name::HostName;

/// How long the authority may take to look whether the name leads here, or to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// A chain and its key, both PEM.
pub(crate) struct Issued {
    pub chain: String,
    pub key: String,
}

/// Why an order came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The authority did not find what it looked for at the name.
    #[error("{0}")]
    Unproven(String),
    /// The authority offers no challenge of this kind.
    #[error("the authority offers no {0} challenge for the name")]
    NotOffered(&'static str),
    /// Anything else.
    #[error(transparent)]
    Acme(#[from] Error),
    /// Nothing that the authority has to do with.
    #[error("{0}")]
    Own(String),
}

impl OrderError {
    /// The authority's name of the error, without the part that all have.
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Acme(Error::Api(problem)) => problem.r#type.as_deref()?.strip_prefix(PREFIX),
            _ => None,
        }
    }
}

const PREFIX: &str = "urn:ietf:params:acme:error:";

/// A way to prove that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    TlsAlpn,
    Http,
}

impl Way {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn => "tls-alpn-01",
            Self::Http => "http-01",
        }
    }

    /// The one to try when this one has failed.
    pub fn other(self) -> Self {
        match self {
            Self::TlsAlpn => Self::Http,
            Self::Http => Self::TlsAlpn,
        }
    }

    fn challenge(self) -> ChallengeType {
        match self {
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
            Self::Http => ChallengeType::Http01,
        }
    }
}

/// Orders a certificate for `name`.
pub(crate) async fn order(
    account: &Account,
    name: &HostName,
    way: Way,
    challenges: &Challenges,
) -> Result<Issued, OrderError> {
    let identifiers = [Identifier::Dns(name.to_string())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    if order.state().status != OrderStatus::Ready {
        let proven = match prove(&mut order, name, way, challenges).await {
            // Answers last until the authority has looked.
            Ok(_answered) => order.poll_ready(&PATIENCE).await.map_err(OrderError::from),
            Err(error) => Err(error),
        };
        match proven {
            Ok(OrderStatus::Ready) => {}
            Err(error @ (OrderError::NotOffered(_) | OrderError::Own(_))) => return Err(error),
            // An authority that looks at once may say what it saw instead of taking note of the challenge.
            other => {
                let unsaid = || match other {
                    Err(error) => error,
                    Ok(_) => OrderError::Unproven("the authority refused the order".into()),
                };
                return Err(refusal(&mut order).await.map_or_else(unsaid, OrderError::Unproven));
            }
        }
    }
    let own = |e: rcgen::Error| OrderError::Own(e.to_string());
    let key = KeyPair::generate().map_err(own)?;
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(own)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(own)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Issued { chain, key: key.serialize_pem() })
}

/// Answers what the authority asks, and tells it so. Answers last as long as the result.
async fn prove(
    order: &mut Order,
    name: &HostName,
    way: Way,
    challenges: &Challenges,
) -> Result<Vec<Published>, OrderError> {
    let mut answered = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge =
            authorization.challenge(way.challenge()).ok_or(OrderError::NotOffered(way.name()))?;
        let proof = challenge.key_authorization();
        answered.push(match way {
            Way::Http => challenges.over_http(&challenge.token, proof.as_str()),
            Way::TlsAlpn => challenges.over_tls(name, proof.digest().as_ref()).map_err(OrderError::Own)?,
        });
        challenge.set_ready().await?;
    }
    Ok(answered)
}

/// What the authority says of a challenge that it did not accept.
async fn refusal(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        let failed = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(error) = failed {
            return Some(error.to_string().replacen("API error: ", "", 1));
        }
    }
    None
}
