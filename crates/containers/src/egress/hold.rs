//! A container that does nothing and has a network: another container is put into it when all that can be sent out there is led
//! elsewhere, so that the first thing that it sends is, too.

use http::Method;
use serde_json::{Value as Json, json};

use crate::archive;
use crate::engine::{Engine, EngineError};

/// The only file in it.
const PROGRAM: &str = "pause";
/// What it may use: the least memory that Docker gives.
const MEMORY: u64 = 8 << 20;
const PIDS: u32 = 4;

/// Sleeps, and sleeps again. `None` where we know no such program.
fn code() -> Option<(u16, &'static [u8])> {
    if cfg!(target_arch = "x86_64") {
        // mov eax, 34 (pause); syscall; jmp
        return Some((0x3e, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]));
    }
    if cfg!(target_arch = "aarch64") {
        // mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b
        return Some((
            0xb7,
            &[
                0, 0, 0x80, 0xd2, 1, 0, 0x80, 0xd2, 2, 0, 0x80, 0xd2, 3, 0, 0x80, 0xd2, 4, 0, 0x80, 0xd2,
                0x28, 0x09, 0x80, 0xd2, 1, 0, 0, 0xd4, 0xf9, 0xff, 0xff, 0x17,
            ],
        ));
    }
    None
}

/// A program as elf(5) says, whose one segment is the whole file.
fn program(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0]);
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Loaded, to be read and run.
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [0, BASE, BASE, length, length, 0x1_0000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// What the image of an owner is called.
pub(crate) fn image(owner: &str) -> String {
    format!("skep-hold-{}:1", owner.to_lowercase())
}

/// Makes the image, if it is not there.
pub(crate) async fn prepare(engine: &Engine, image: &str) -> Result<(), EngineError> {
    if engine.has_image(image).await? {
        return Ok(());
    }
    let (machine, code) =
        code().ok_or_else(|| engine.absent("there is no such program for this machine's processor"))?;
    let archive = archive::of_file(PROGRAM, 0o555, &program(machine, code));
    let archive = archive.map_err(|error| engine.absent(error))?;
    let (repository, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let target = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
    let request = engine.with_archive(Method::POST, &target, archive)?;
    engine.steps(request).await
}

/// What Docker is asked for. Pure.
pub(crate) fn body(image: &str, network: &str, labels: &Json, internet: bool, sees_host: bool) -> Json {
    let mut host = json!({
        "NetworkMode": network,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": { "Name": "no" },
        "ReadonlyRootfs": true,
        "Memory": MEMORY,
        "PidsLimit": PIDS,
        "LogConfig": { "Type": "none" },
    });
    if sees_host {
        host["ExtraHosts"] = json!(["host.docker.internal:host-gateway"]);
    }
    if !internet {
        // As in `create.rs`: questions that come by TCP are answered by Docker.
        host["Dns"] = json!(["127.0.0.1"]);
    }
    json!({ "Image": image, "Cmd": [format!("/{PROGRAM}")], "User": "65534:65534", "Labels": labels, "HostConfig": host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_internet_no_name_server_is_asked() {
        let made = |internet| body("i:1", "net", &json!({}), internet, false)["HostConfig"]["Dns"].clone();
        assert_eq!((made(false), made(true)), (json!(["127.0.0.1"]), Json::Null));
    }

    #[test]
    fn the_program_runs_until_it_is_ended() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::ExitStatusExt;
        let Some((machine, code)) = code() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROGRAM);
        std::fs::write(&path, program(machine, code)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
