//! A version's bindings that send mail.

use std::sync::Arc;

use serde_json::Value as Json;
use skep_catalog::Content;
use skep_config::SendEmail;
use skep_fleet::{Binding, CellSpec};

use crate::mail::{Relay, SentMail};

/// Adds the bindings to a version's cell. What they may send is looked at outside of it.
pub fn add(account: &str, script: &str, content: &Content, relay: Option<&Arc<Relay>>, spec: &mut CellSpec) {
    let own = content.bindings.iter().filter(|binding| binding["type"] == "send_email");
    for (n, binding) in own.enumerate() {
        let service = format!("mail{n}");
        let binding = binding_of(binding);
        let name = binding.name.clone();
        let (relay, account, script) = (relay.cloned(), account.to_owned(), script.to_owned());
        let sent = SentMail { relay, binding, account, script };
        spec.services.insert(service.clone(), Arc::new(sent));
        spec.bindings.insert(name, Binding::SendEmail { service });
    }
}

fn binding_of(binding: &Json) -> SendEmail {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let all = |key: &str| Some(binding[key].as_array()?.iter().filter_map(text).collect());
    SendEmail {
        name: text(&binding["name"]).unwrap_or_default(),
        destination_address: text(&binding["destination_address"]),
        allowed_destination_addresses: all("allowed_destination_addresses"),
        allowed_sender_addresses: all("allowed_sender_addresses"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_binding_means_the_same_as_in_a_configuration() {
        let read = binding_of(&json!({
            "type": "send_email", "name": "MAIL", "allowed_destination_addresses": ["b@x.org"], "allowed_sender_addresses": [],
        }));
        // An empty list allows nobody.
        let expected = SendEmail {
            name: "MAIL".into(),
            destination_address: None,
            allowed_destination_addresses: Some(vec!["b@x.org".into()]),
            allowed_sender_addresses: Some(Vec::new()),
        };
        assert_eq!(read, expected);
    }
}
