//! What a cell may ask for. Pure: what is not on this list does not get through.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::names::{Cell, Instance, is_hexadecimal};

/// What the engine of a cell wants, of a container that it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What its state is.
    Inspect(Instance),
    /// A new one.
    Create(Instance),
    Start(Instance),
    Stop(Instance),
    /// A signal by its name.
    Kill(Instance, String),
    /// To wait for its end; how, as Docker says it.
    Wait(Instance, Option<&'static str>),
    /// That it is gone.
    Remove(Instance),
    /// The certificate of the authority that signs for its worker, where it looks for it. The engine sends an archive.
    Certificate(Instance),
    /// A process in it.
    NewExec(Instance),
    /// A process that was made, by its id: the rest is for who knows whose it is.
    StartExec(String),
    InspectExec(String),
    ResizeExec(String, u16, u16),
    /// Something of the helper beside the container, whose part Skep plays.
    Sidecar(Instance, Sidecar),
    /// Where the engine should listen for what containers send out.
    Bridge,
    /// Snapshots that are kept.
    ListVolumes,
}

/// What is wanted of the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sidecar {
    Inspect,
    Create,
    Start,
    Wait,
    Remove,
}

/// Why something is not done, as Docker would say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn no(what: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("Skep does not do this for a worker: {what}"))
    }

    fn later(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} of containers does not work on Skep yet"))
    }
}

/// Longest path that is looked at.
const LONGEST: usize = 4096;

/// What `method` on `path` with `query` means for a cell that may have the containers of `cell`.
pub(crate) fn wanted(cell: &Cell, method: &Method, path: &str, query: &str) -> Result<Wanted, Refusal> {
    let unknown = || Refusal::no(&format!("{method} {}", path.chars().take(200).collect::<String>()));
    if path.len() + query.len() > LONGEST {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "the path is too long"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    let Some(("", parts)) = parts.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(unknown());
    };
    let is = |wanted: Method| *method == wanted;
    match parts {
        ["networks", "bridge"] if is(Method::GET) => Ok(Wanted::Bridge),
        ["volumes"] if is(Method::GET) => Ok(Wanted::ListVolumes),
        ["volumes", ..] | ["commit"] | ["images", ..] => Err(Refusal::later("a snapshot")),
        ["containers", "create"] if is(Method::POST) => match only(query, "name")? {
            // Helpers of the engine for snapshots.
            None => Err(Refusal::later("a snapshot")),
            Some(name) => match instance(cell, &name)? {
                (instance, false) => Ok(Wanted::Create(instance)),
                (instance, true) => Ok(Wanted::Sidecar(instance, Sidecar::Create)),
            },
        },
        ["containers", name] if is(Method::DELETE) => {
            only(query, "force")?;
            match named(cell, name)? {
                (instance, false) => Ok(Wanted::Remove(instance)),
                (instance, true) => Ok(Wanted::Sidecar(instance, Sidecar::Remove)),
            }
        }
        ["containers", name, action] => {
            let (instance, sidecar) = named(cell, name)?;
            of_container(method, instance, sidecar, action, query)?.ok_or_else(unknown)
        }
        ["exec", id, action] if is_hexadecimal(id) && id.len() <= 64 => {
            let id = (*id).to_owned();
            match *action {
                "start" if is(Method::POST) => Ok(Wanted::StartExec(id)),
                "json" if is(Method::GET) => Ok(Wanted::InspectExec(id)),
                "resize" if is(Method::POST) => {
                    let side = |name: &str| {
                        let all = form_urlencoded::parse(query.as_bytes());
                        let mut own =
                            all.filter(|(key, _)| key == name).map(|(_, value)| value.parse::<u16>());
                        own.next()?.ok()
                    };
                    match (side("h"), side("w")) {
                        (Some(rows), Some(columns)) => Ok(Wanted::ResizeExec(id, rows, columns)),
                        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "a size has two numbers: h and w")),
                    }
                }
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn of_container(
    method: &Method,
    instance: Instance,
    sidecar: bool,
    action: &str,
    query: &str,
) -> Result<Option<Wanted>, Refusal> {
    let is = |wanted: Method| *method == wanted;
    if sidecar {
        let what = match action {
            "json" if is(Method::GET) => Sidecar::Inspect,
            "start" if is(Method::POST) => Sidecar::Start,
            "wait" if is(Method::POST) => Sidecar::Wait,
            _ => return Ok(None),
        };
        return Ok(Some(Wanted::Sidecar(instance, what)));
    }
    Ok(Some(match action {
        "json" if is(Method::GET) => Wanted::Inspect(instance),
        "start" if is(Method::POST) => Wanted::Start(instance),
        "stop" if is(Method::POST) => Wanted::Stop(instance),
        "kill" if is(Method::POST) => Wanted::Kill(instance, signal(query)?),
        "wait" if is(Method::POST) => Wanted::Wait(instance, condition(query)?),
        "exec" if is(Method::POST) => Wanted::NewExec(instance),
        "archive" if is(Method::PUT) => match only(query, "path")?.as_deref() {
            Some("/etc") => Wanted::Certificate(instance),
            _ => return Err(Refusal::no("a file in a container")),
        },
        "archive" if is(Method::GET) => return Err(Refusal::later("a snapshot")),
        _ => return Ok(None),
    }))
}

/// The value of the only parameter that there may be.
fn only(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let mut value = None;
    for (key, own) in form_urlencoded::parse(query.as_bytes()) {
        if key != name || value.is_some() {
            let key: String = key.chars().take(100).collect();
            return Err(Refusal::no(&format!("the parameter \"{key}\"")));
        }
        value = Some(own.into_owned());
    }
    Ok(value)
}

fn named(cell: &Cell, name: &str) -> Result<(Instance, bool), Refusal> {
    instance(cell, &percent_decode_str(name).decode_utf8_lossy())
}

/// A name that is none of the cell's is answered as one that does not exist.
fn instance(cell: &Cell, name: &str) -> Result<(Instance, bool), Refusal> {
    cell.instance(name).ok_or_else(|| {
        let name: String = name.chars().take(200).collect();
        Refusal::new(StatusCode::NOT_FOUND, format!("No such container: {name}"))
    })
}

fn signal(query: &str) -> Result<String, Refusal> {
    let name = only(query, "signal")?.unwrap_or_else(|| "SIGKILL".to_owned());
    let rest = name.strip_prefix("SIG").unwrap_or(&name);
    let fits = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'+' || c == b'-';
    match !rest.is_empty() && rest.len() <= 12 && rest.bytes().all(fits) {
        true => Ok(name),
        false => Err(Refusal::new(StatusCode::BAD_REQUEST, "that is the name of no signal")),
    }
}

fn condition(query: &str) -> Result<Option<&'static str>, Refusal> {
    let Some(asked) = only(query, "condition")? else { return Ok(None) };
    let known = ["not-running", "next-exit", "removed"].into_iter().find(|known| *known == asked);
    known.map(Some).ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "that is nothing to wait for"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::Limits;
    use crate::names::Class;
    use proptest::prelude::*;

    fn cell(keys: &[&str]) -> Cell {
        let class = |key: &&str| Class {
            unique_key: (*key).to_owned(),
            label: (*key).to_owned(),
            image: "image:1".into(),
            limits: Limits::default(),
            max_instances: 1,
        };
        Cell { classes: keys.iter().map(class).collect() }
    }

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn ask(cell: &Cell, method: &str, target: &str) -> Result<Wanted, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        wanted(cell, &method.parse().unwrap(), path, query)
    }

    fn own() -> Instance {
        Instance { unique_key: "box".into(), id: ID.into() }
    }

    #[test]
    fn what_the_engine_asks_is_understood() {
        let cell = cell(&["box"]);
        let n = format!("workerd-box-{ID}");
        let cases = [
            ("GET", format!("/containers/{n}/json"), Wanted::Inspect(own())),
            ("POST", format!("/containers/create?name={n}"), Wanted::Create(own())),
            ("POST", format!("/containers/{n}/start"), Wanted::Start(own())),
            ("POST", format!("/containers/{n}/stop"), Wanted::Stop(own())),
            ("POST", format!("/containers/{n}/kill?signal=SIGTERM"), Wanted::Kill(own(), "SIGTERM".into())),
            ("POST", format!("/containers/{n}/wait"), Wanted::Wait(own(), None)),
            ("POST", format!("/containers/{n}/wait?condition=removed"), Wanted::Wait(own(), Some("removed"))),
            ("DELETE", format!("/containers/{n}?force=true"), Wanted::Remove(own())),
            ("PUT", format!("/containers/{n}/archive?path=%2Fetc"), Wanted::Certificate(own())),
            ("POST", format!("/containers/{n}/exec"), Wanted::NewExec(own())),
            ("POST", "/exec/0a1b/start".into(), Wanted::StartExec("0a1b".into())),
            ("GET", "/exec/0a1b/json".into(), Wanted::InspectExec("0a1b".into())),
            ("POST", "/exec/0a1b/resize?h=24&w=80".into(), Wanted::ResizeExec("0a1b".into(), 24, 80)),
            ("GET", format!("/containers/{n}-proxy/json"), Wanted::Sidecar(own(), Sidecar::Inspect)),
            ("POST", format!("/containers/create?name={n}-proxy"), Wanted::Sidecar(own(), Sidecar::Create)),
            ("POST", format!("/containers/{n}-proxy/start"), Wanted::Sidecar(own(), Sidecar::Start)),
            ("DELETE", format!("/containers/{n}-proxy?force=true"), Wanted::Sidecar(own(), Sidecar::Remove)),
            ("GET", "/networks/bridge".into(), Wanted::Bridge),
            (
                "GET",
                "/volumes?filters=%7B%22name%22%3A%5B%22workerd-snap-%22%5D%7D".into(),
                Wanted::ListVolumes,
            ),
        ];
        for (method, target, expected) in cases {
            assert_eq!(ask(&cell, method, &target), Ok(expected), "{method} {target}");
        }
    }

    #[test]
    fn a_key_with_odd_letters_and_one_that_begins_as_another_are_told_apart() {
        let cell = cell(&["a", "a-b", "ü/$"]);
        let of = |key: &str| Instance { unique_key: key.into(), id: ID.into() };
        let target = |key: &str| format!("/containers/workerd-{key}-{ID}/json");
        assert_eq!(ask(&cell, "GET", &target("a")), Ok(Wanted::Inspect(of("a"))));
        assert_eq!(ask(&cell, "GET", &target("a-b")), Ok(Wanted::Inspect(of("a-b"))));
        assert_eq!(ask(&cell, "GET", &target("%C3%BC%2F%24")), Ok(Wanted::Inspect(of("ü/$"))));
        assert_eq!(ask(&cell, "GET", &target("c")).unwrap_err().status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_others_have_does_not_exist_and_what_docker_can_do_besides_is_refused() {
        let cell = cell(&["box"]);
        let n = format!("workerd-box-{ID}");
        for (method, target) in [
            ("GET", "/containers/json".to_owned()),
            ("GET", format!("/containers/workerd-other-{ID}/json")),
            ("GET", "/containers/workerd-box-123/json".into()),
            ("GET", format!("/containers/workerd-box-{}/json", ID.to_uppercase())),
            ("POST", "/containers/create".into()),
            ("POST", "/containers/create?name=mine".into()),
            ("POST", format!("/containers/create?name={n}&platform=x")),
            ("POST", format!("/containers/create?name={n}&name=other")),
            ("DELETE", format!("/containers/{n}?force=true&v=1")),
            ("POST", format!("/containers/{n}/attach")),
            ("POST", format!("/containers/{n}/update")),
            ("POST", format!("/containers/{n}/rename?name=x")),
            ("POST", format!("/containers/{n}/kill?signal=%2Fetc")),
            ("GET", format!("/containers/{n}/archive?path=/")),
            ("PUT", format!("/containers/{n}/archive?path=/etc/x")),
            ("PUT", format!("/containers/{n}/archive?path=/etc&copyUIDGID=1")),
            ("PUT", format!("/containers/{n}/archive")),
            ("GET", format!("/containers/{n}/../x/json")),
            ("POST", format!("/v1.41/containers/{n}/start")),
            ("GET", "/info".into()),
            ("POST", "/build".into()),
            ("POST", "/images/create?fromImage=x".into()),
            ("POST", "/commit?container=x".into()),
            ("GET", "/networks/host".into()),
            ("POST", "/networks/bridge".into()),
            ("POST", "/volumes/create".into()),
            ("POST", "/exec/../start".into()),
            ("POST", "/exec/xyz/start".into()),
            ("POST", format!("/exec/{ID}{ID}/start")),
            ("POST", "/exec/0a/resize?h=1".into()),
            ("POST", "/exec/0a/resize?h=1&w=70000".into()),
            ("GET", "*".into()),
            ("GET", String::new()),
        ] {
            let refused = ask(&cell, method, &target);
            let status = refused.expect_err(&format!("{method} {target}")).status;
            assert!(status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED, "{method} {target}");
        }
    }

    proptest! {
        /// Whatever is asked, only containers of the cell come out, and nothing that Docker reads as something else.
        #[test]
        fn nothing_gets_through_that_is_not_the_cells(
            method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "CONNECT"]),
            parts in prop::collection::vec(prop_oneof![
                Just("containers".to_owned()), Just("exec".to_owned()), Just("create".to_owned()), Just("json".to_owned()),
                Just("start".to_owned()), Just("kill".to_owned()), Just("..".to_owned()), Just("volumes".to_owned()),
                Just(format!("workerd-box-{ID}")), Just(format!("workerd-box-{ID}-proxy")),
                Just(format!("workerd-other-{ID}")), "[ -~]{0,20}", "workerd-box-[0-9a-f]{60,66}",
            ], 0..5),
            query in "[ -~]{0,40}|name=workerd-(box|other)-[0-9a-f]{64}(&.{0,5})?|signal=[ -~]{0,10}",
        ) {
            let cell = cell(&["box"]);
            let path = format!("/{}", parts.join("/"));
            if let Ok(wanted) = wanted(&cell, &method.parse().unwrap(), &path, &query) {
                match wanted {
                    Wanted::Inspect(own) | Wanted::Create(own) | Wanted::Start(own) | Wanted::Stop(own)
                    | Wanted::Wait(own, _) | Wanted::Remove(own) | Wanted::NewExec(own) | Wanted::Sidecar(own, _)
                    | Wanted::Certificate(own) => {
                        prop_assert!(cell.class(&own).is_some() && crate::names::is_id(&own.id));
                    }
                    Wanted::Kill(own, signal) => {
                        prop_assert!(cell.class(&own).is_some());
                        prop_assert!(signal.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'-'));
                    }
                    Wanted::StartExec(id) | Wanted::InspectExec(id) | Wanted::ResizeExec(id, ..) => {
                        prop_assert!(is_hexadecimal(&id) && path.starts_with("/exec/"));
                    }
                    Wanted::Bridge => prop_assert_eq!(path, "/networks/bridge"),
                    Wanted::ListVolumes => prop_assert_eq!(path, "/volumes"),
                }
            }
        }
    }
}
