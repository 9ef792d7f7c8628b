//! From a tree to a [`WorkerConfig`].

use crate::model::*;
use crate::read::{Reader, Table};
use crate::storage::{KvNamespace, R2Bucket, S3Credentials};
use crate::{containers, d1, exports, hyperdrive, site, stored, workflow};

/// The longest delay that queues know: 24 hours.
const DAY: u32 = 86_400;

pub(crate) fn read(reader: &Reader<'_>, root: &Table<'_>) -> WorkerConfig {
    let own = root.string("name").unwrap_or_default();
    let (objects, exported_workflows) = exports::read(root, &own);
    WorkerConfig {
        path: reader.source.path.clone(),
        dir: reader.dir.to_owned(),
        project_dir: reader.dir.to_owned(),
        environment: None,
        name: name(root),
        main: root.path("main").or_else(|| site::entry(root)),
        compatibility_date: compatibility_date(root),
        compatibility_flags: root.strings("compatibility_flags"),
        vars: root
            .table("vars")
            .map(|vars| vars.node().entries().iter().map(|e| (e.key.clone(), e.node.to_json())).collect())
            .unwrap_or_default(),
        secrets: Default::default(),
        kv_namespaces: root.tables("kv_namespaces").iter().map(kv).collect(),
        r2_buckets: root.tables("r2_buckets").iter().map(r2).collect(),
        d1_databases: root.tables("d1_databases").iter().map(d1::read).collect(),
        durable_objects: nested(root, "durable_objects", "bindings").iter().map(durable_object).collect(),
        migrations: root.tables("migrations").iter().map(migration).collect(),
        exports: objects,
        containers: containers::read(root, &own),
        queue_producers: nested(root, "queues", "producers").iter().map(producer).collect(),
        queue_consumers: nested(root, "queues", "consumers").iter().filter_map(consumer).collect(),
        crons: root.table("triggers").map(|t| t.strings("crons")).unwrap_or_default(),
        services: root.tables("services").iter().map(service).collect(),
        dispatch_namespaces: root.tables("dispatch_namespaces").iter().map(dispatch_namespace).collect(),
        tail_consumers: root.tables("tail_consumers").iter().map(tail_consumer).collect(),
        workflows: root.tables("workflows").iter().map(|t| workflow::read(t, &own)).collect(),
        exported_workflows,
        analytics_engine_datasets: root.tables("analytics_engine_datasets").iter().map(dataset).collect(),
        vectorize: root.tables("vectorize").iter().map(vectorize).collect(),
        hyperdrive: hyperdrive::read(root),
        ratelimits: ratelimits(root),
        send_email: root.tables("send_email").iter().map(send_email).collect(),
        ai: root.table("ai").map(|t| t.required("binding")).into_iter().collect(),
        browsers: root.table("browser").map(|t| t.required("binding")).into_iter().collect(),
        stored_secrets: root.tables("secrets_store_secrets").iter().map(stored::read).collect(),
        worker_loaders: root.tables("worker_loaders").iter().map(|t| t.required("binding")).collect(),
        images: root.table("images").map(|t| t.required("binding")),
        version_metadata: root.table("version_metadata").map(|t| t.required("binding")),
        assets: root.table("assets").and_then(|t| assets(&t)),
        site: root.table("site").map(|t| site::read(root, &t)),
        wasm_modules: root.path_map("wasm_modules"),
        text_blobs: root.path_map("text_blobs"),
        data_blobs: root.path_map("data_blobs"),
        bundle: bundle(root),
        dev: root.table("dev").map(|t| dev(&t)).unwrap_or_default(),
    }
}

fn nested<'a>(root: &Table<'a>, key: &str, list: &str) -> Vec<Table<'a>> {
    root.table(key).map(|table| table.tables(list)).unwrap_or_default()
}

/// The rule and the text are wrangler's.
fn name(root: &Table<'_>) -> String {
    let name = root.string("name").unwrap_or_default();
    let valid = name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if !valid {
        let message = format!("\"name\" is \"{name}\"");
        root.error("name", message, "expected only lowercase letters, digits, dashes and underscores");
    }
    name
}

fn compatibility_date(root: &Table<'_>) -> Option<String> {
    let date = root.string("compatibility_date")?;
    let valid = date.len() == 10
        && date
            .bytes()
            .enumerate()
            .all(|(n, b)| if n == 4 || n == 7 { b == b'-' } else { b.is_ascii_digit() });
    if !valid {
        root.error(
            "compatibility_date",
            format!("\"compatibility_date\" is \"{date}\""),
            "expected YYYY-MM-DD",
        );
    }
    Some(date)
}

fn kv(table: &Table<'_>) -> KvNamespace {
    let binding = table.required("binding");
    KvNamespace { id: table.string("id").unwrap_or_else(|| binding.clone()), binding }
}

fn r2(table: &Table<'_>) -> R2Bucket {
    let binding = table.required("binding");
    let credentials = table.table("local_dev").and_then(|dev| dev.table("experimental_s3_credentials"));
    R2Bucket {
        bucket_name: table.string("bucket_name").unwrap_or_else(|| binding.clone()),
        binding,
        s3_credentials: credentials.map(|credentials| S3Credentials {
            access_key_id: credentials.required("accessKeyId"),
            secret_access_key: credentials.required("secretAccessKey"),
        }),
    }
}

fn durable_object(table: &Table<'_>) -> DurableObject {
    DurableObject {
        name: table.required("name"),
        class_name: table.required("class_name"),
        script_name: table.string("script_name").map(|script| in_environment(table, script)),
    }
}

/// The name of a worker in the environment that a binding to it asks for.
fn in_environment(table: &Table<'_>, worker: String) -> String {
    match table.string("environment") {
        Some(environment) => format!("{worker}-{environment}"),
        None => worker,
    }
}

fn migration(table: &Table<'_>) -> Migration {
    let renamed = table.tables("renamed_classes");
    let transferred = table.tables("transferred_classes");
    Migration {
        tag: table.required("tag"),
        new_classes: table.strings("new_classes"),
        new_sqlite_classes: table.strings("new_sqlite_classes"),
        renamed_classes: renamed.iter().map(|t| (t.required("from"), t.required("to"))).collect(),
        deleted_classes: table.strings("deleted_classes"),
        transferred_classes: transferred
            .iter()
            .map(|t| (t.required("from"), t.required("from_script"), t.required("to")))
            .collect(),
    }
}

fn producer(table: &Table<'_>) -> QueueProducer {
    QueueProducer {
        binding: table.required("binding"),
        queue: table.required("queue"),
        delivery_delay: table.integer("delivery_delay", 0, DAY),
    }
}

/// `None` for a pull consumer: nothing is delivered to a worker.
fn consumer(table: &Table<'_>) -> Option<QueueConsumer> {
    if table.one_of("type", &["worker", "http_pull"]).as_deref() == Some("http_pull") {
        return None;
    }
    Some(QueueConsumer {
        queue: table.required("queue"),
        max_batch_size: table.integer("max_batch_size", 1, 100),
        max_batch_timeout: table.integer("max_batch_timeout", 0, 60),
        max_retries: table.integer("max_retries", 0, 100),
        dead_letter_queue: table.string("dead_letter_queue"),
        max_concurrency: table.integer("max_concurrency", 1, 250),
        retry_delay: table.integer("retry_delay", 0, DAY),
    })
}

fn service(table: &Table<'_>) -> ServiceBinding {
    ServiceBinding {
        binding: table.required("binding"),
        service: in_environment(table, table.required("service")),
        entrypoint: table.string("entrypoint"),
        props: table.json("props"),
    }
}

fn dispatch_namespace(table: &Table<'_>) -> DispatchNamespace {
    let binding = table.required("binding");
    let outbound = table.table("outbound").map(|outbound| Outbound {
        service: in_environment(&outbound, outbound.required("service")),
        parameters: outbound.strings("parameters"),
    });
    DispatchNamespace {
        namespace: table.string("namespace").unwrap_or_else(|| binding.clone()),
        outbound,
        binding,
    }
}

fn send_email(table: &Table<'_>) -> SendEmail {
    let list = |key| table.get(key).map(|_| table.strings(key));
    if table.get("destination_address").is_some() && table.get("allowed_destination_addresses").is_some() {
        let message = "A \"send_email\" binding has either \"destination_address\" or \"allowed_destination_addresses\"";
        table.error("destination_address", message, "remove one of them");
    }
    SendEmail {
        name: table.required("name"),
        destination_address: table.string("destination_address"),
        allowed_destination_addresses: list("allowed_destination_addresses"),
        allowed_sender_addresses: list("allowed_sender_addresses"),
    }
}

fn tail_consumer(table: &Table<'_>) -> String {
    in_environment(table, table.required("service"))
}

fn dataset(table: &Table<'_>) -> AnalyticsDataset {
    let binding = table.required("binding");
    AnalyticsDataset { dataset: table.string("dataset").unwrap_or_else(|| binding.clone()), binding }
}

fn vectorize(table: &Table<'_>) -> VectorizeIndex {
    VectorizeIndex {
        binding: table.required("binding"),
        index_name: table.required("index_name"),
        dimensions: table.integer("dimensions", 32, 1536),
        metric: table.one_of("metric", &["cosine", "euclidean", "dot-product"]),
        is_made: false,
    }
}

fn ratelimits(root: &Table<'_>) -> Vec<RateLimit> {
    let mut all: Vec<RateLimit> = root.tables("ratelimits").iter().filter_map(ratelimit).collect();
    for table in nested(root, "unsafe", "bindings") {
        match table.required("type").as_str() {
            "ratelimit" => all.extend(ratelimit(&table)),
            _ if table.deploying() => {}
            other => table.error(
                "type",
                format!("unsafe bindings of type \"{other}\" do not exist on Skep"),
                "only \"ratelimit\" does: remove the binding",
            ),
        }
    }
    all
}

/// Cloudflare's `simple: {limit, period}`, or Skep's sliding window with the fields beside the name.
fn ratelimit(table: &Table<'_>) -> Option<RateLimit> {
    let simple = table.table("simple");
    let (limit, period) = match &simple {
        Some(simple) => {
            let period = simple.integer("period", 10, 60);
            if period.is_some_and(|period| period != 10 && period != 60) {
                let message = format!("\"{}\" is neither 10 nor 60", simple.name("period"));
                simple.error(
                    "period",
                    message,
                    "expected 10 or 60; other periods go beside \"namespace_id\"",
                );
            }
            (simple.integer("limit", 1, u32::MAX), period.map(f64::from))
        }
        None => (table.integer("limit", 1, u32::MAX), table.seconds("period")),
    };
    let holder = simple.as_ref().unwrap_or(table);
    for (key, missing) in [("limit", limit.is_none()), ("period", period.is_none())] {
        if missing && holder.get(key).is_none() {
            let message = format!("\"{}\" is missing", holder.name(key));
            holder.error(key, message, "expected \"simple\": { \"limit\": …, \"period\": 10 or 60 }");
        }
    }
    let namespace_id = match table.json("namespace_id") {
        Some(serde_json::Value::Number(number)) => number.to_string(),
        _ => table.required("namespace_id"),
    };
    Some(RateLimit {
        name: table.required("name"),
        namespace_id,
        limit: limit?,
        period: period?,
        burst: table.integer("burst", 1, u32::MAX),
        burst_window: table.seconds("burstWindow"),
        bucket_size: table.seconds("bucketSize"),
    })
}

fn assets(table: &Table<'_>) -> Option<Assets> {
    let Some(directory) = table.path("directory") else {
        let message = "\"assets.directory\" is missing";
        table.error("directory", message, "expected the folder of the static assets");
        return None;
    };
    let run_worker_first = match table.json("run_worker_first") {
        None => RunWorkerFirst::Always(false),
        Some(serde_json::Value::Bool(always)) => RunWorkerFirst::Always(always),
        Some(_) => RunWorkerFirst::Paths(table.strings("run_worker_first")),
    };
    Some(Assets {
        directory,
        binding: table.string("binding"),
        html_handling: table.one_of(
            "html_handling",
            &["auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"],
        ),
        not_found_handling: table
            .one_of("not_found_handling", &["single-page-application", "404-page", "none"]),
        run_worker_first,
    })
}

fn bundle(root: &Table<'_>) -> Bundle {
    let build = root.table("build");
    let watch = build.as_ref().map(|b| match b.json("watch_dir") {
        Some(serde_json::Value::Array(_)) => b.strings("watch_dir"),
        Some(_) => b.string("watch_dir").into_iter().collect(),
        None => vec!["./src".to_owned()],
    });
    let dir = |text: String| root_dir(root, &text);
    Bundle {
        no_bundle: root.bool("no_bundle").unwrap_or(false),
        find_additional_modules: root.bool("find_additional_modules"),
        preserve_file_names: root.bool("preserve_file_names").unwrap_or(false),
        base_dir: root.path("base_dir"),
        minify: root.bool("minify").unwrap_or(false),
        keep_names: root.bool("keep_names"),
        rules: root.tables("rules").iter().filter_map(rule).collect(),
        alias: root.string_map("alias"),
        define: root.string_map("define"),
        tsconfig: root.path("tsconfig"),
        jsx_factory: root.string("jsx_factory"),
        jsx_fragment: root.string("jsx_fragment"),
        command: build.as_ref().and_then(|b| b.string("command")),
        command_dir: build.as_ref().and_then(|b| b.path("cwd")),
        watch_dirs: watch.into_iter().flatten().map(dir).collect(),
    }
}

fn root_dir(root: &Table<'_>, text: &str) -> std::path::PathBuf {
    root.dir().join(text)
}

fn rule(table: &Table<'_>) -> Option<Rule> {
    let kind = table.one_of("type", &["ESModule", "CommonJS", "CompiledWasm", "Text", "Data"])?;
    Some(Rule { kind, globs: table.strings("globs"), fallthrough: table.bool("fallthrough") })
}

fn dev(table: &Table<'_>) -> Dev {
    let protocol = table.one_of("local_protocol", &["http", "https"]);
    if protocol.as_deref() == Some("https") && !table.deploying() {
        let message = "\"dev.local_protocol\" is \"https\"";
        table.error("local_protocol", message, "`skep dev` speaks HTTP: remove it, or put a proxy in front");
    }
    let port = |key| table.integer(key, 0, 65_535).and_then(|port| u16::try_from(port).ok());
    let engine = match table.json("container_engine") {
        Some(serde_json::Value::Object(_)) => {
            let docker = table.table("container_engine").and_then(|own| own.table("localDocker"));
            docker.map(|docker| docker.required("socketPath"))
        }
        _ => table.string("container_engine"),
    };
    Dev {
        ip: table.string("ip"),
        port: port("port"),
        inspector_port: port("inspector_port"),
        enable_containers: table.bool("enable_containers"),
        container_engine: engine,
    }
}
