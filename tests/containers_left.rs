//! What a node leaves in Docker, and when that goes.

use serde_json::json;

use crate::containers_bounds::machine;
use crate::containers_bounds::node::{self, Account, Boxed};
use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};
use crate::image_registry::docker::Docker;

fn account(serve: &Serve) -> Account {
    Account { id: serve.account.clone(), token: serve.token.clone() }
}

fn start(serve: &Serve) {
    Boxed { serve, site: "app.main.localhost".to_owned(), name: "one" }.start(false);
}

/// What is in Docker by the name that Skep gives: lines.
fn images(docker: &Docker, reference: &str) -> Vec<String> {
    let filter = format!("reference={reference}");
    let listed = docker.must(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &filter]);
    listed.lines().map(str::to_owned).collect()
}

fn count(docker: &Docker, what: &[&str]) -> usize {
    docker.must(&[what, &["-q", "--filter", "label=dev.skep.owner"]].concat()).lines().count()
}

fn rules(program: &str) -> String {
    let output = std::process::Command::new(program).args(["-t", "mangle", "-S"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn images_go_when_nobody_needs_them_and_those_of_others_stay() {
    let Some(_machine) = machine::enter() else { return };
    let Some(docker) = Docker::start_with(&[]) else { return };
    docker.image("others:1", &[("x", b"others")]);
    let flag = node::flag(&docker.socket());
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    let own = account(&serve);
    let (first, second) = (node::layer("first"), node::layer("second"));
    let image = own.push(&serve, "box:1", &first);
    own.deploy(&serve, "app", &image, &json!({ "instance_type": "lite" }));
    start(&serve);
    let before = images(&docker, "skep-*/*");
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(
        images(&docker, "*/*/*"),
        [""; 0],
        "by the registry's name, which is another one after each start"
    );
    docker.must(&["tag", &before[0], "mine:1"]);

    // A roll-out to another image: that of before goes with the last container that has it.
    let image = own.push(&serve, "box:2", &second);
    let applications = own.make(&serve, "GET", "/containers/applications", None);
    let path = format!("/containers/applications/{}", applications[0]["id"].as_str().unwrap());
    own.make(&serve, "PATCH", &path, Some(&json!({ "configuration": { "image": image } })));
    let serve = serve_in(serve.stop("KILL"), &[&flag]);
    let after = images(&docker, "skep-*/*");
    assert!(after.len() == 1 && after != before, "{after:?}, before {before:?}");
    start(&serve);
    assert_eq!(images(&docker, "skep-*/*"), after, "it is not got again");

    let own = account(&serve);
    own.make(&serve, "DELETE", "/workers/scripts/app", None);
    eventually("the end of the image", || images(&docker, "skep-*/*").is_empty().then_some(()));
    assert_eq!(images(&docker, "mine"), ["mine:1"]);
    assert_eq!(images(&docker, "others"), ["others:1"]);
    drop(serve);
}

#[test]
fn a_node_that_runs_no_containers_any_more_removes_what_a_killed_run_has_left() {
    let Some(_machine) = machine::enter() else { return };
    let Some(docker) = Docker::start_with(&[]) else { return };
    docker.must(&["network", "create", "--label", "dev.skep.owner=another", "another"]);
    let flag = node::flag(&docker.socket());
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    let own = account(&serve);
    let image = own.push(&serve, "box:1", &node::layer("word"));
    own.deploy(&serve, "app", &image, &json!({ "instance_type": "lite" }));
    start(&serve);
    let dir = serve.stop("KILL");
    assert_eq!((count(&docker, &["ps"]), count(&docker, &["network", "ls"])), (1, 2));
    assert!(rules("iptables").contains("SKEP-"));

    let serve = serve_in(dir, &[]);
    assert_eq!((count(&docker, &["ps", "-a"]), count(&docker, &["network", "ls"])), (0, 1));
    assert_eq!(images(&docker, "skep-*/*"), [""; 0]);
    assert!(
        !rules("iptables").contains(" sk") && !rules("ip6tables").contains(" sk"),
        "{}",
        rules("iptables")
    );
    let dir = serve.stop("TERM");

    // One whose Docker is gone says what stays, and starts.
    let dir = serve_in(dir, &[&flag]).stop("KILL");
    drop(docker);
    let serve = serve_in(dir, &[]);
    eventually("a word on what stays", || serve.output().contains("stays there").then_some(()));
    drop(serve);
}
