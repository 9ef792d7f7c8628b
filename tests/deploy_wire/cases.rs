//! Projects that are deployed by wrangler and by `skep deploy`, twice each.

const DECLARED: &str = r#"import { DurableObject, WorkerEntrypoint, WorkflowEntrypoint } from "cloudflare:workers";
export class First extends WorkflowEntrypoint { async run() {} }
export class Second extends WorkflowEntrypoint { async run() {} }
export class Third extends WorkflowEntrypoint { async run() {} }
export class Fourth extends WorkflowEntrypoint { async run() {} }
export class Room extends DurableObject {}
export class Admin extends WorkerEntrypoint {}
export default { fetch: () => new Response("x") };
"#;

/// A project and how it is deployed.
pub type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

/// What is compared.
pub const CASES: &[Case] = &[
    (
        r#"{ "name": "envs", "main": "index.js", "compatibility_date": "2026-07-01", "vars": { "A": "1" },
             "env": { "staging": { "vars": { "A": "2", "B": { "x": 1 } }, "workers_dev": true, "observability": { "enabled": true } } } }"#,
        &[
            ("index.js", "export default { fetch: () => new Response('x') };"),
            ("secrets.env", "KEY=one\nOTHER=\"t w o\"\n"),
        ],
        &[
            "--env",
            "staging",
            "--secrets-file",
            "secrets.env",
            "--keep-vars",
            "--message",
            "m",
            "--tag",
            "t",
            "--var",
            "C:3",
        ],
    ),
    (
        r#"{ "name": "files", "compatibility_date": "2026-07-01", "assets": { "directory": "public" } }"#,
        &[("public/a.html", "<p>"), ("public/_headers", "/*\n  X: y\n")],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "old", "main": "old.js", "compatibility_date": "2024-01-01", "vars": { "A": "1" } }"#,
        &[("old.js", "addEventListener('fetch', (event) => event.respondWith(new Response(A)));")],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "tenant", "main": "index.js", "compatibility_date": "2026-07-01", "limits": { "cpu_ms": 10 },
             "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
             "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }], "assets": { "directory": "public", "binding": "ASSETS" } }"#,
        &[
            (
                "index.js",
                "import { DurableObject } from 'cloudflare:workers';\nexport class Room extends DurableObject {}\nexport default { fetch: () => new Response('x') };",
            ),
            ("public/a.txt", "a"),
        ],
        &["--dispatch-namespace", "tenants"],
    ),
    (
        r#"{ "name": "small", "main": "src/index.tsx", "compatibility_date": "2026-07-01", "minify": true, "keep_names": false,
             "tsconfig": "tsconfig.build.json", "jsx_factory": "h", "jsx_fragment": "Parts", "upload_source_maps": true,
             "alias": { "far-away": "./src/near.ts" }, "define": { "BUILT": "\"today\"" } }"#,
        &[
            (
                "src/index.tsx",
                "import near from 'far-away';\nimport { aside } from '~/aside';\ndeclare const BUILT: string;\n\
                 const Parts = 'f';\nfunction h(tag: string, _: unknown, ...inside: string[]) { return `<${tag}>${inside.join('')}`; }\n\
                 function page(longName: string) { return <><p>{longName}</p></>; }\n\
                 export default { fetch: () => new Response(page(near + aside + BUILT) as unknown as string) };",
            ),
            ("src/near.ts", "export default 'near';"),
            ("lib/aside.ts", "class Named { static label = Named.name; }\nexport const aside = Named.label;"),
            (
                "tsconfig.build.json",
                r#"{ "compilerOptions": { "paths": { "~/*": ["./lib/*"] }, "useDefineForClassFields": false } }"#,
            ),
        ],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "apart", "main": "src/index.js", "compatibility_date": "2026-07-01", "no_bundle": true, "base_dir": "src",
             "rules": [{ "type": "ESModule", "globs": ["parts/*.js"], "fallthrough": true }, { "type": "Text", "globs": ["**/*.sql"] }] }"#,
        &[
            (
                "src/index.js",
                "import { one } from './parts/one.js';\nimport query from './query.sql';\nexport default { fetch: () => new Response(one + query) };",
            ),
            ("src/parts/one.js", "export const one = 1;"),
            ("src/parts/two.js", "export const two = 2;"),
            ("src/query.sql", "SELECT 1;"),
        ],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "found", "main": "src/index.js", "compatibility_date": "2026-07-01", "find_additional_modules": true,
             "base_dir": "src", "preserve_file_names": true,
             "rules": [{ "type": "ESModule", "globs": ["langs/*.js"] }, { "type": "Data", "globs": ["**/*.dat"] }] }"#,
        &[
            (
                "src/index.js",
                "import data from './numbers.dat';\nimport { one } from './bundled';\n\
                 export default { fetch: async (request) => new Response((await import(`./langs/${new URL(request.url).pathname}.js`)).default + one + data.byteLength) };",
            ),
            ("src/bundled.js", "export const one = 1;"),
            ("src/langs/en.js", "export default 'hello';"),
            ("src/langs/de.js", "export default 'hallo';"),
            ("src/numbers.dat", "123"),
        ],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "declared", "main": "index.js", "compatibility_date": "2026-07-01",
             "workflows": [{ "binding": "SECOND", "name": "second", "class_name": "Second" }, { "binding": "THIRD", "name": "third", "class_name": "Third" }],
             "exports": {
                 "First": { "type": "workflow", "name": "first", "limits": { "steps": 5 }, "concurrency": { "limit": 2 },
                     "schedules": "0 0 * * *", "default_retention": { "error_retention": "3 days" } },
                 "Second": { "type": "workflow", "name": "second" },
                 "Admin": { "type": "worker", "cache": { "enabled": true } } } }"#,
        &[("index.js", DECLARED)],
        &["--tag", "t"],
    ),
    (
        r#"{ "name": "declares", "main": "index.js", "compatibility_date": "2026-07-01",
             "exports": { "Fourth": { "type": "workflow", "name": "fourth" }, "Room": { "type": "durable-object", "storage": "sqlite" },
                 "Gone": { "type": "durable-object", "state": "transferred", "transferred_to": "other" },
                 "default": { "type": "worker" } } }"#,
        &[("index.js", DECLARED)],
        &["--tag", "t"],
    ),
];
