//! `send_email` under `skep dev`: mail is checked and kept.

use serde_json::{Value, json};

use crate::harness::{dev_with, small_project};

const CONFIG: &str = r#"{
  "name": "mailing", "main": "index.js", "compatibility_date": "2026-07-01",
  "send_email": [
    { "name": "ANY" },
    { "name": "ONE", "destination_address": "one@example.com" },
    { "name": "SOME", "allowed_destination_addresses": ["b@example.com"], "allowed_sender_addresses": ["a@example.com"] },
  ],
}"#;

const CODE: &str = r#"
import { EmailMessage } from "cloudflare:email";

const HEAD = "Message-ID: <mine@x>\r\nFrom: Ann <a@example.com>\r\nTo: b@example.com\r\n";
const raw = (head = HEAD) => `${head}Subject: Hi\r\n\r\nHello\r\n`;

export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    const said = (sent) => sent.catch((error) => error.message);
    const whole = (binding, from, to, text = raw()) => said(binding.send(new EmailMessage(from, to, text)));
    if (path === "/whole") return Response.json(await whole(env.SOME, "a@example.com", "b@example.com"));
    if (path === "/stream") {
      return Response.json(await whole(env.ANY, "a@example.com", "c@example.com", new Response(raw()).body));
    }
    const parts = {
      from: { name: "Ann", email: "a@example.com" }, to: ["b@example.com", "Bob <b@example.com>"], cc: "d@example.com", subject: "Hi",
      text: "plain", html: "<b>rich</b>", attachments: [
        { filename: "a.bin", type: "application/octet-stream", disposition: "attachment", content: new Uint8Array([0, 255]).buffer },
        { filename: "note", type: "text/plain", content: "ä" },
      ],
    };
    if (path === "/parts") return Response.json(await env.SOME.send(parts));
    if (path === "/shown") {
      const message = new EmailMessage("a@example.com", "b@example.com", raw());
      return Response.json([message.raw ?? "hidden", message, message instanceof EmailMessage, Object.keys(env.ANY)]);
    }
    return Response.json([
      await whole(env.ONE, "a@example.com", "b@example.com"),
      await whole(env.SOME, "a@example.com", "c@example.com"),
      await whole(env.SOME, "c@example.com", "b@example.com"),
      await said(env.SOME.send({ ...parts, to: ["b@example.com", { name: "C", email: "c@example.com" }] })),
      await said(env.SOME.send({ ...parts, from: "C <c@example.com>" })),
      await whole(env.ANY, "b@example.com", "b@example.com"),
      await whole(env.ANY, "a@example.com", "b@example.com", raw("From: a@example.com\r\n")),
      await whole(env.ANY, "a@example.com", "b@example.com", raw(HEAD + "Received: by x\r\n")),
      await whole(env.ANY, "a@example.com", "b@example.com", raw(HEAD + "not a field\r\n")),
    ]);
  },
};
"#;

/// The id in an answer of `send()`, without its brackets.
fn id(answer: &Value) -> String {
    let id = answer["messageId"].as_str().unwrap_or_else(|| panic!("no id: {answer}"));
    assert!(id.starts_with('<') && id.ends_with("@example.com>"), "{id}");
    id.trim_matches(['<', '>']).to_owned()
}

#[test]
fn mail_is_kept_in_files_and_not_sent() {
    let (project, state) = (small_project(CONFIG, &[("index.js", CODE)]), tempfile::tempdir().unwrap());
    let skep = dev_with(project.path(), state.path(), &[]);
    let kept = |name: &str| {
        let path = state.path().join("email").join(name);
        skep.wait_for_output(&path.display().to_string());
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    for path in ["/whole", "/stream"] {
        let id = id(&skep.get(path).json());
        let expected = format!(
            "Message-ID: <{id}>\r\nFrom: Ann <a@example.com>\r\nTo: b@example.com\r\nSubject: Hi\r\n\r\nHello\r\n"
        );
        assert_eq!(String::from_utf8(kept(&format!("{id}.eml"))).unwrap(), expected);
    }
    assert!(skep.output().contains("send_email binding called with the following message:\nEmail: "));

    let id = id(&skep.get("/parts").json());
    let files = [".txt", ".html", "-1.bin", "-2.bin"].map(|end| kept(&format!("{id}{end}")));
    assert_eq!(files, [b"plain".to_vec(), b"<b>rich</b>".to_vec(), vec![0, 255], "ä".into()]);
    skep.wait_for_output(
        "send_email binding called with MessageBuilder:\nFrom: \"Ann\" <a@example.com>\n\
         To: b@example.com, Bob <b@example.com>\nCc: d@example.com\nSubject: Hi\n\nText: ",
    );
}

#[test]
fn mail_that_may_not_be_sent_is_refused_in_miniflares_words() {
    let (project, state) = (small_project(CONFIG, &[("index.js", CODE)]), tempfile::tempdir().unwrap());
    let skep = dev_with(project.path(), state.path(), &[]);
    let expected = json!([
        "email to b@example.com not allowed",
        "email to c@example.com not allowed",
        "email from c@example.com not allowed",
        "email to c@example.com not allowed",
        "email from c@example.com not allowed",
        "From: header does not match mail from",
        "invalid message-id",
        "invalid headers set",
        "could not parse email: Invalid header name.",
    ]);
    assert_eq!(skep.get("/refused").json(), expected);
    assert!(!state.path().join("email").exists());
    let expected = json!(["hidden", { "from": "a@example.com", "to": "b@example.com" }, true, []]);
    assert_eq!(skep.get("/shown").json(), expected);
}
