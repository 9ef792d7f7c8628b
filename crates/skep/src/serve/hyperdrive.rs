//! Where databases of Hyperdrive may be, and how a version's bindings lead to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::Value as Json;
use skep_api::hyperdrive_origin;
use skep_catalog::{Content, Sealer};
use skep_fleet::{Binding, CellSpec, Egress, Origin, check_network, is_public};
use skep_hyperdrive::{Find, Hyperdrive, Verdict};

use super::tenant::Tenant;

/// A private network, or one port of it, where databases are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    network: Egress,
    port: Option<u16>,
}

/// Reads `10.1.0.0/16`, `10.1.2.3:5432`, `[fd12::]/16` or `[fd12::1]:5432`.
pub fn parse_place(text: &str) -> Result<Place, String> {
    let place = |network: &str, port| {
        let network = check_network(network)?;
        Ok(Place { network: Egress::parse(&[network])?, port })
    };
    if let Ok(place) = place(text, None) {
        return Ok(place);
    }
    let wrong =
        || format!("\"{text}\" is no network: give one as 10.1.0.0/16, or with a port as 10.1.2.3:5432");
    let (network, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let network = network.replace(['[', ']'], "");
    place(&network, Some(port)).map_err(|_: String| wrong())
}

/// Whether a database may be at `address`: on the internet, where worker code may go itself, or at a place for databases.
fn verdict(address: SocketAddr, egress: &Egress, places: &[Place]) -> Verdict {
    let at = |ip: IpAddr, place: &Place| {
        place.network.allows(ip) && place.port.is_none_or(|port| port == address.port())
    };
    match address.ip() {
        ip if is_public(ip) => Verdict::Public,
        ip if egress.allows(ip) || places.iter().any(|place| at(ip, place)) => Verdict::Private,
        _ => Verdict::Forbidden,
    }
}

/// What connects to databases, for all accounts. `egress` is whom worker code may reach.
pub fn connector(egress: &[String], places: Vec<Place>) -> Result<Arc<Hyperdrive>, String> {
    let egress = Egress::parse(egress)?;
    Ok(Hyperdrive::new(Arc::new(move |address| verdict(address, &egress, &places))))
}

/// What all who use a configuration share connections by.
pub fn shared_id(account: &str, id: &str) -> String {
    format!("{account}/{id}")
}

/// Where to a version's bindings of Hyperdrive lead.
pub struct Leads<'a> {
    pub tenant: &'a Arc<Tenant>,
    pub sealer: &'a Arc<Sealer>,
    pub hyperdrive: &'a Arc<Hyperdrive>,
    /// What drivers are to say. Nobody checks it: a cell is known by its socket.
    pub password: &'a str,
}

impl Leads<'_> {
    /// Adds the bindings to a version's cell. It gets the names of the user and of the database, as at Cloudflare, and
    /// nothing else of the configuration, which is read anew for each connection.
    pub fn add(&self, script: &str, content: &Content, spec: &mut CellSpec) -> Result<(), String> {
        let own = content.bindings.iter().filter(|binding| binding["type"] == "hyperdrive");
        for (n, (name, id)) in own.filter_map(named).enumerate() {
            let find = self.find(id);
            let shared = shared_id(&self.tenant.id, id);
            let (user, database, scheme) = match self.known(id)? {
                Some((origin, scheme)) => {
                    self.hyperdrive.limit(&shared, origin.connections);
                    (origin.user, origin.database, scheme)
                }
                // It went after the deploy: who connects hears of it.
                None => (String::new(), String::new(), "postgresql".to_owned()),
            };
            let connection = format!("hyperdrive{n}");
            let binding = skep_hyperdrive::Binding {
                hyperdrive: self.hyperdrive.clone(),
                id: shared,
                owner: self.tenant.id.clone(),
                script: script.to_owned(),
                find,
            };
            spec.connections.insert(connection.clone(), Arc::new(binding));
            let (origin, password) = (Origin::Here(connection), self.password.to_owned());
            let binding = Binding::Hyperdrive { origin, scheme, user, password, database };
            spec.bindings.insert(name.to_owned(), binding);
        }
        Ok(())
    }

    fn known(&self, id: &str) -> Result<Option<(skep_hyperdrive::Origin, String)>, String> {
        let found = hyperdrive_origin(&self.tenant.stores.catalog, self.sealer, &self.tenant.id, id);
        found.map_err(|e| format!("the Hyperdrive config {id}: {e}"))
    }

    fn find(&self, id: &str) -> Find {
        let (tenant, sealer, id) = (Arc::downgrade(self.tenant), self.sealer.clone(), id.to_owned());
        Arc::new(move || {
            let tenant = tenant.upgrade().ok_or("the node is stopping")?;
            let found = hyperdrive_origin(&tenant.stores.catalog, &sealer, &tenant.id, &id)?;
            found.map(|(origin, _)| origin).ok_or_else(|| format!("Hyperdrive config '{id}' not found."))
        })
    }
}

fn named(binding: &Json) -> Option<(&str, &str)> {
    Some((binding["name"].as_str()?, binding["id"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_on_the_internet_or_where_the_operator_says() {
        let egress = Egress::parse(&["public".to_owned(), "10.9.0.0/16".to_owned()]).unwrap();
        let places: Vec<Place> = ["127.0.0.1:5432", "10.1.0.0/16", "[fd12::1]:6000", "fd13::/16"]
            .map(|text| parse_place(text).unwrap())
            .into();
        let verdict = |address: &str| verdict(address.parse().unwrap(), &egress, &places);
        for (address, expected) in [
            ("1.1.1.1:5432", Verdict::Public),
            ("127.0.0.1:5432", Verdict::Private),
            ("[::ffff:127.0.0.1]:5432", Verdict::Private),
            ("127.0.0.1:5433", Verdict::Forbidden),
            ("127.0.0.2:5432", Verdict::Forbidden),
            ("10.1.2.3:1", Verdict::Private),
            ("10.9.2.3:1", Verdict::Private),
            ("10.2.0.1:5432", Verdict::Forbidden),
            ("[fd12::1]:6000", Verdict::Private),
            ("[fd12::1]:6001", Verdict::Forbidden),
            ("[fd13::7]:1", Verdict::Private),
            ("169.254.169.254:80", Verdict::Forbidden),
            ("[::1]:5432", Verdict::Forbidden),
            ("0.0.0.0:5432", Verdict::Forbidden),
        ] {
            assert_eq!(verdict(address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in ["", "db.internal:5432", "10.0.0.0/33", "10.0.0.1:", "10.0.0.1:70000", ":5432"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
