//! Where visitors are, by databases of addresses that the operator has.
//!
//! The files are MaxMind DBs with the fields of GeoIP2 (<https://dev.maxmind.com/geoip/docs/databases/>): GeoLite2 City, Country and
//! ASN, DB-IP Lite and others of this form.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// Databases that say where an address is. What the first one does not say, the next one may.
pub struct Places(Vec<Reader<Vec<u8>>>);

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} is no database of addresses that can be read: {source}. It has to be a MaxMind DB file, such as GeoLite2-City.mmdb", .file.display())]
pub struct PlacesError {
    file: PathBuf,
    source: MaxMindDbError,
}

/// An entry, of which each kind of database has a part.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    continent: Area,
    country: Area,
    subdivisions: Vec<Area>,
    city: Area,
    postal: Area,
    location: Location,
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Area {
    code: Option<String>,
    iso_code: Option<String>,
    is_in_european_union: bool,
    names: Names,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    en: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
    metro_code: Option<u16>,
    time_zone: Option<String>,
}

impl Places {
    /// Reads the databases into memory.
    pub fn open(files: &[PathBuf]) -> Result<Self, PlacesError> {
        let open = |file: &PathBuf| {
            Reader::open_readfile(Path::new(file))
                .map_err(|source| PlacesError { file: file.clone(), source })
        };
        Ok(Self(files.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// What is known of an address, by the names of `request.cf`.
    /// <https://developers.cloudflare.com/workers/runtime-apis/request/#incomingrequestcfproperties>
    pub(crate) fn of(&self, ip: IpAddr) -> Map<String, Json> {
        let mut place = Map::new();
        for reader in &self.0 {
            // A database of IPv4 has no entries for IPv6, and a damaged one loses its entries only.
            let entry = reader.lookup(ip).and_then(|found| found.decode::<Entry>());
            match entry {
                Ok(entry) => {
                    for (name, value) in entry.map(Entry::fields).into_iter().flatten() {
                        place.entry(name).or_insert(value);
                    }
                }
                Err(error) => tracing::debug!(%error, "a database of addresses could not be asked"),
            }
        }
        place
    }
}

impl Entry {
    fn fields(mut self) -> impl Iterator<Item = (&'static str, Json)> {
        let region =
            if self.subdivisions.is_empty() { Area::default() } else { self.subdivisions.swap_remove(0) };
        let degrees = |degrees: Option<f64>| degrees.map(|degrees| format!("{degrees:.5}").into());
        let text = |text: Option<String>| text.map(Json::from);
        [
            ("continent", text(self.continent.code)),
            ("isEUCountry", self.country.is_in_european_union.then(|| "1".into())),
            ("country", text(self.country.iso_code)),
            ("region", text(region.names.en)),
            ("regionCode", text(region.iso_code)),
            ("city", text(self.city.names.en)),
            ("postalCode", text(self.postal.code)),
            ("metroCode", self.location.metro_code.map(|code| code.to_string().into())),
            ("latitude", degrees(self.location.latitude)),
            ("longitude", degrees(self.location.longitude)),
            ("timezone", text(self.location.time_zone)),
            ("asn", self.autonomous_system_number.map(Json::from)),
            ("asOrganization", text(self.autonomous_system_organization)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.0.iter().map(|reader| &reader.metadata().database_type);
        f.debug_list().entries(kinds).finish()
    }
}
