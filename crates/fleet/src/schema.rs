//! Where the fields of the engine's configuration are in a Cap'n Proto message: those of `workerd.capnp` that are used
//! here. A field never moves in later versions of a schema.

/// A struct type: words of data, pointers, fields.
pub(crate) struct Layout {
    pub data: usize,
    pub pointers: usize,
    pub fields: &'static [Field],
}

/// A field; of a union, its place among the 16-bit numbers of the data, and its number, come with it.
pub(crate) struct Field {
    pub name: &'static str,
    pub tag: Option<(usize, u16)>,
    pub kind: Kind,
}

/// What a field holds, and in which bit or pointer.
pub(crate) enum Kind {
    Void,
    Bool(usize),
    Text(usize),
    Data(usize),
    Texts(usize),
    Struct(usize, &'static Layout),
    List(usize, &'static Layout),
    /// More fields of the same struct.
    Group(&'static [Field]),
}

impl Layout {
    /// How many words one takes.
    pub(crate) fn words(&self) -> usize {
        self.data + self.pointers
    }

    /// The upper half of a pointer to one.
    pub(crate) fn shape(&self) -> u64 {
        ((self.data as u64) << 32) | ((self.pointers as u64) << 48)
    }
}

use Kind::{Bool, Data, Group, List, Struct, Text, Texts, Void};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, tag: None, kind }
}

/// One of a union's whose tag is the first number of the data.
const fn either(name: &'static str, tag: u16, kind: Kind) -> Field {
    Field { name, tag: Some((0, tag)), kind }
}

pub(crate) static CONFIG: Layout = Layout {
    data: 1,
    pointers: 6,
    fields: &[
        field("services", List(0, &SERVICE)),
        field("sockets", List(1, &SOCKET)),
        field("v8Flags", Texts(2)),
        field("extensions", List(3, &EXTENSION)),
        field("logging", Struct(5, &LOGGING)),
    ],
};

static LOGGING: Layout = Layout { data: 1, pointers: 2, fields: &[field("structuredLogging", Bool(0))] };

static SOCKET: Layout = Layout {
    data: 1,
    pointers: 5,
    fields: &[
        field("name", Text(0)),
        field("address", Text(1)),
        either("http", 0, Struct(2, &HTTP)),
        field("service", Struct(4, &DESIGNATOR)),
    ],
};

static SERVICE: Layout = Layout {
    data: 1,
    pointers: 2,
    fields: &[
        field("name", Text(0)),
        either("worker", 1, Struct(1, &WORKER)),
        either("network", 2, Struct(1, &NETWORK)),
        either("external", 3, Struct(1, &EXTERNAL)),
        either("disk", 4, Struct(1, &DISK)),
    ],
};

static DESIGNATOR: Layout = Layout {
    data: 1,
    pointers: 3,
    fields: &[
        field("name", Text(0)),
        field("entrypoint", Text(1)),
        field("props", Group(&[either("json", 1, Text(2))])),
    ],
};

static WORKER: Layout = Layout {
    data: 1,
    pointers: 16,
    fields: &[
        either("modules", 0, List(0, &MODULE)),
        either("serviceWorkerScript", 1, Text(0)),
        field("compatibilityDate", Text(1)),
        field("compatibilityFlags", Texts(2)),
        field("bindings", List(3, &BINDING)),
        field("globalOutbound", Struct(4, &DESIGNATOR)),
        field("durableObjectNamespaces", List(5, &NAMESPACE)),
        field("cacheApiOutbound", Struct(7, &DESIGNATOR)),
        field(
            "durableObjectStorage",
            Group(&[
                Field { name: "inMemory", tag: Some((1, 1)), kind: Void },
                Field { name: "localDisk", tag: Some((1, 2)), kind: Text(8) },
            ]),
        ),
        field("tails", List(10, &DESIGNATOR)),
        field("streamingTails", List(11, &DESIGNATOR)),
        field(
            "containerEngine",
            Group(&[Field { name: "localDocker", tag: Some((2, 1)), kind: Struct(12, &DOCKER) }]),
        ),
        field("workflowsEngine", Struct(15, &WORKFLOWS)),
    ],
};

static MODULE: Layout = Layout {
    data: 1,
    pointers: 3,
    fields: &[
        field("name", Text(0)),
        either("esModule", 0, Text(1)),
        either("commonJsModule", 1, Text(1)),
        either("text", 2, Text(1)),
        either("data", 3, Data(1)),
        either("wasm", 4, Data(1)),
        either("json", 5, Text(1)),
        either("bundled", 9, Text(1)),
    ],
};

static WORKFLOWS: Layout = Layout {
    data: 0,
    pointers: 2,
    fields: &[field("actorClass", Struct(0, &DESIGNATOR)), field("workflows", List(1, &WORKFLOW))],
};

static WORKFLOW: Layout = Layout {
    data: 0,
    pointers: 3,
    fields: &[
        field("className", Text(0)),
        field("name", Text(1)),
        field("bindingService", Struct(2, &DESIGNATOR)),
    ],
};

static BINDING: Layout = Layout {
    data: 1,
    pointers: 6,
    fields: &[
        field("name", Text(0)),
        either("text", 2, Text(1)),
        either("data", 3, Data(1)),
        either("json", 4, Text(1)),
        either("wasmModule", 5, Data(1)),
        either("service", 7, Struct(1, &DESIGNATOR)),
        either("durableObjectNamespace", 8, Struct(1, &NAMESPACE_DESIGNATOR)),
        either("kvNamespace", 9, Struct(1, &DESIGNATOR)),
        either("r2Bucket", 10, Struct(1, &DESIGNATOR)),
        either("wrapped", 12, Struct(1, &WRAPPED)),
        either("queue", 13, Struct(1, &DESIGNATOR)),
        either("analyticsEngine", 15, Struct(1, &DESIGNATOR)),
        either(
            "hyperdrive",
            16,
            Group(&[
                field("designator", Struct(1, &DESIGNATOR)),
                field("database", Text(2)),
                field("user", Text(3)),
                field("password", Text(4)),
                field("scheme", Text(5)),
            ]),
        ),
        either("workerdDebugPort", 21, Void),
    ],
};

static NAMESPACE_DESIGNATOR: Layout = Layout {
    data: 0,
    pointers: 2,
    // By itself, text is the class.
    fields: &[field("className", Text(0)), field("serviceName", Text(1)), field("name", Text(0))],
};

static WRAPPED: Layout = Layout {
    data: 0,
    pointers: 3,
    fields: &[field("moduleName", Text(0)), field("innerBindings", List(2, &BINDING))],
};

static NAMESPACE: Layout = Layout {
    data: 1,
    pointers: 3,
    fields: &[
        field("className", Text(0)),
        either("uniqueKey", 0, Text(1)),
        field("enableSql", Bool(17)),
        field("container", Struct(2, &CONTAINER)),
    ],
};

static CONTAINER: Layout = Layout { data: 0, pointers: 3, fields: &[field("imageName", Text(0))] };

static DOCKER: Layout = Layout {
    data: 0,
    pointers: 3,
    fields: &[field("socketPath", Text(0)), field("containerEgressInterceptorImage", Text(1))],
};

static EXTERNAL: Layout = Layout {
    data: 1,
    pointers: 4,
    fields: &[field("address", Text(0)), either("http", 0, Struct(1, &HTTP)), either("tcp", 2, Group(&[]))],
};

static NETWORK: Layout = Layout {
    data: 0,
    pointers: 3,
    fields: &[field("allow", Texts(0)), field("tlsOptions", Struct(2, &TLS))],
};

static DISK: Layout =
    Layout { data: 1, pointers: 1, fields: &[field("path", Text(0)), field("writable", Bool(0))] };

static HTTP: Layout = Layout {
    data: 1,
    pointers: 5,
    fields: &[
        field("forwardedProtoHeader", Text(0)),
        field("cfBlobHeader", Text(1)),
        field("injectRequestHeaders", List(2, &HEADER)),
        field("capnpConnectHost", Text(4)),
    ],
};

static HEADER: Layout =
    Layout { data: 0, pointers: 2, fields: &[field("name", Text(0)), field("value", Text(1))] };

static TLS: Layout = Layout { data: 1, pointers: 3, fields: &[field("trustBrowserCas", Bool(1))] };

static EXTENSION: Layout =
    Layout { data: 0, pointers: 1, fields: &[field("modules", List(0, &EXTENSION_MODULE))] };

static EXTENSION_MODULE: Layout = Layout {
    data: 1,
    pointers: 2,
    fields: &[field("name", Text(0)), field("internal", Bool(0)), field("esModule", Text(1))],
};
