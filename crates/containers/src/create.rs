//! What Docker is asked for when a cell wants a container: written anew from the few fields that a cell decides. Pure.

use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::names::Class;
use crate::policy::Refusal;

/// What a container may use. `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory; there is no swap beside it.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Bytes of disk, where Docker's storage can keep to it.
    pub disk: Option<u64>,
}

/// What else decides how a container is made.
#[derive(Clone, Debug)]
pub(crate) struct Around<'a> {
    /// The network that it is in.
    pub network: &'a str,
    /// What marks it as ours.
    pub labels: Json,
    /// Whether the storage keeps to a size.
    pub sized: bool,
    /// Whether it is to find this machine as `host.docker.internal`.
    pub sees_host: bool,
    /// Whether it may reach the internet.
    pub internet: bool,
    pub is_podman: bool,
}

/// What Docker gives a container by default, without what makes devices (MKNOD), forges packets on a network that others are on
/// (NET_RAW), and writes to the machine's audit log (AUDIT_WRITE).
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Arguments, and variables, of one container.
const MOST: usize = 4096;
/// Bytes of all of them.
const MOST_BYTES: usize = 1 << 20;
/// The scheduler's period, in microseconds.
const PERIOD: u64 = 100_000;
/// The smallest share of it that the kernel takes.
const LEAST: u64 = 1_000;

/// The body of a request that makes the container of an object of `class`, from the one that the cell's engine has sent.
pub(crate) fn body(class: &Class, sent: &[u8], around: &Around<'_>) -> Result<Json, Refusal> {
    let sent: Json = serde_json::from_slice(sent)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not JSON"))?;
    // An application names another image by `start({ image })`.
    let image = sent["Image"].as_str().unwrap_or_default();
    if image != class.image_name() {
        let image: String = image.chars().take(200).collect();
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("No such image: {image}")));
    }
    if sent["HostConfig"]["Mounts"].as_array().is_some_and(|mounts| !mounts.is_empty()) {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "snapshots of containers do not work on Skep yet",
        ));
    }
    let mut body = json!({
        "Image": class.image,
        "Env": texts(&sent, "Env")?.unwrap_or_default(),
        "Labels": around.labels,
        "HostConfig": host(class, around),
    });
    if let Some(command) = texts(&sent, "Cmd")? {
        body["Cmd"] = command.into();
    }
    Ok(body)
}

fn host(class: &Class, around: &Around<'_>) -> Json {
    let Limits { memory, cpus, pids, disk } = class.limits;
    let mut host = json!({
        "NetworkMode": around.network,
        "CapDrop": ["ALL"],
        "CapAdd": CAPABILITIES,
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": { "Name": "no" },
        "Privileged": false,
        "PublishAllPorts": false,
        "CgroupnsMode": "private",
    });
    if let Some(memory) = memory {
        host["Memory"] = memory.into();
        host["MemorySwap"] = memory.into();
    }
    if let Some(cpus) = cpus {
        // Unlike `NanoCpus`, this may be more than the machine has.
        host["CpuPeriod"] = PERIOD.into();
        host["CpuQuota"] = ((cpus * PERIOD as f64) as u64).max(LEAST).into();
    }
    if let Some(pids) = pids {
        host["PidsLimit"] = pids.into();
    }
    if let Some(disk) = disk.filter(|_| around.sized) {
        host["StorageOpt"] = json!({ "size": disk.to_string() });
    }
    if around.sees_host {
        host["ExtraHosts"] = json!(["host.docker.internal:host-gateway"]);
    }
    if !around.internet && !around.is_podman {
        // Docker answers names for a container, and asks a name server of the machine for it, also where there is no other way
        // out: releases before 26 do, <https://nvd.nist.gov/vuln/detail/CVE-2024-29018>. This one is in the container, where none is.
        host["Dns"] = json!(["127.0.0.1"]);
    }
    if !around.is_podman {
        // What a container says is kept, and must not fill the disk.
        host["LogConfig"] = json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "2" } });
    }
    host
}

/// A list of texts; `None` where there is none.
pub(crate) fn texts(sent: &Json, key: &str) -> Result<Option<Vec<String>>, Refusal> {
    let wrong = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, format!("{key} {what}"));
    let list = match &sent[key] {
        Json::Null => return Ok(None),
        Json::Array(list) => list,
        _ => return Err(wrong("is no list")),
    };
    let texts: Option<Vec<String>> = list.iter().map(|own| own.as_str().map(str::to_owned)).collect();
    let texts = texts.ok_or_else(|| wrong("has something that is no text"))?;
    if texts.len() > MOST || texts.iter().map(String::len).sum::<usize>() > MOST_BYTES {
        return Err(wrong("is too long"));
    }
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(wrong("has a zero in it"));
    }
    Ok(Some(texts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class() -> Class {
        let limits =
            Limits { memory: Some(256 << 20), cpus: Some(0.0625), pids: Some(64), disk: Some(1 << 30) };
        Class {
            unique_key: "k".into(),
            label: "Box".into(),
            image: "real@sha256:1".into(),
            limits,
            max_instances: 1,
        }
    }

    fn around() -> Around<'static> {
        Around {
            network: "net",
            labels: json!({ "a": "b" }),
            sized: true,
            sees_host: false,
            internet: true,
            is_podman: false,
        }
    }

    #[test]
    fn without_the_internet_no_name_server_is_asked() {
        let made = |internet| {
            let sent = json!({ "Image": "skep/box" }).to_string();
            body(&class(), sent.as_bytes(), &Around { internet, ..around() }).unwrap()
        };
        assert_eq!(made(false)["HostConfig"]["Dns"], json!(["127.0.0.1"]));
        assert!(made(true)["HostConfig"]["Dns"].is_null());
    }

    #[test]
    fn a_container_gets_what_its_class_says() {
        let sent = json!({
            "Image": "skep/box", "Cmd": ["run", "it"], "Env": ["A=1"], "User": "root", "WorkingDir": "/",
            "HostConfig": { "Privileged": true, "Binds": ["/:/host"], "PidMode": "host", "NetworkMode": "host",
                "CapAdd": ["SYS_ADMIN"], "Devices": [{ "PathOnHost": "/dev/sda" }], "SecurityOpt": ["seccomp=unconfined"] },
        });
        let made = body(&class(), sent.to_string().as_bytes(), &around()).unwrap();
        assert_eq!(
            made,
            json!({
                "Image": "real@sha256:1", "Env": ["A=1"], "Cmd": ["run", "it"], "Labels": { "a": "b" },
                "HostConfig": {
                    "NetworkMode": "net", "CapDrop": ["ALL"], "CapAdd": CAPABILITIES,
                    "SecurityOpt": ["no-new-privileges"], "RestartPolicy": { "Name": "no" }, "Privileged": false,
                    "PublishAllPorts": false, "CgroupnsMode": "private", "Memory": 268_435_456, "MemorySwap": 268_435_456,
                    "CpuPeriod": 100_000, "CpuQuota": 6250, "PidsLimit": 64, "StorageOpt": { "size": "1073741824" },
                    "LogConfig": { "Type": "json-file", "Config": { "max-size": "10m", "max-file": "2" } },
                },
            })
        );
    }

    #[test]
    fn other_images_do_not_exist() {
        let refused = |sent: Json| body(&class(), sent.to_string().as_bytes(), &around()).unwrap_err().status;
        assert_eq!(refused(json!({ "Image": "alpine" })), StatusCode::NOT_FOUND);
        assert_eq!(refused(json!({ "Image": "real@sha256:1" })), StatusCode::NOT_FOUND);
        assert_eq!(refused(json!({})), StatusCode::NOT_FOUND);
        let mounts = json!({ "Image": "skep/box", "HostConfig": { "Mounts": [{ "Source": "x" }] } });
        assert_eq!(refused(mounts), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(refused(json!({ "Image": "skep/box", "Env": "A=1" })), StatusCode::BAD_REQUEST);
        assert_eq!(refused(json!({ "Image": "skep/box", "Cmd": [1] })), StatusCode::BAD_REQUEST);
    }

    proptest! {
        /// However a body looks, what is made of it has the class's image, network and rights, and no other key.
        #[test]
        fn only_command_and_variables_are_the_cells(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            ("[ -~]{0,30}", "[ -~]{0,30}").prop_map(|(a, b)| json!({
                "Image": "skep/box", a.clone(): b, "Cmd": [a], "HostConfig": { b.clone(): b, "Binds": [b] }
            }).to_string().into_bytes()),
        ]) {
            if let Ok(made) = body(&class(), &bytes, &around()) {
                let keys: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
                prop_assert!(keys.iter().all(|key| ["Image", "Env", "Labels", "HostConfig", "Cmd"].contains(key)));
                prop_assert_eq!(&made["Image"], "real@sha256:1");
                prop_assert_eq!(&made["HostConfig"], &host(&class(), &around()));
            }
        }
    }
}
