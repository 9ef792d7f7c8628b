//! The networks that containers are in.

use http::StatusCode;
use serde_json::json;

use crate::containers::{Containers, OWNER};
use crate::engine::EngineError;

impl Containers {
    /// The network that containers are in, by name. On it they reach the machine's way out, or nothing; not each other.
    pub(crate) async fn network(&self, internet: bool) -> Result<String, EngineError> {
        let name = match internet {
            true => format!("skep-{}", self.owner),
            false => format!("skep-{}-closed", self.owner),
        };
        let mut there = self.networks.lock().await;
        if there[usize::from(internet)] {
            return Ok(name);
        }
        let found = self.engine.get(&format!("/networks/{name}")).await?;
        if found.status == StatusCode::NOT_FOUND {
            let mut body = json!({
                "Name": name,
                "Driver": "bridge",
                "Internal": !internet,
                "EnableIPv6": false,
                "CheckDuplicate": true,
                "Labels": { OWNER: self.owner },
            });
            body["Options"] = match self.engine.is_podman() {
                true => json!({ "isolate": "true" }),
                false => json!({ "com.docker.network.bridge.enable_icc": "false" }),
            };
            if let Some(bridges) = &self.options.bridges {
                body["Options"]["com.docker.network.bridge.name"] =
                    bridges[usize::from(!internet)].as_str().into();
            }
            self.engine.post("/networks/create", Some(&body)).await?.checked()?;
        } else {
            found.checked()?;
        }
        there[usize::from(internet)] = true;
        Ok(name)
    }

    /// Whether containers find this machine: the engine has an address for it only where it has a network by default.
    pub(crate) async fn sees_host(&self) -> Result<bool, EngineError> {
        Ok(self.options.sees_host && self.engine.get("/networks/bridge").await?.status.is_success())
    }
}
