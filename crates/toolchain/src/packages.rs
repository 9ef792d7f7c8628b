//! What is fetched, and how it is recognised.

use crate::ToolchainError;

pub(crate) const ENGINE_VERSION: &str = "1.20261117.1";
pub(crate) const ESBUILD_VERSION: &str = "0.28.2";

/// One npm package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub name: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// The SHA-512 of its tarball in base64, as the registry's metadata states it.
    pub sha512: &'static str,
    /// The tarball's size in bytes, for the progress bar.
    pub size: u64,
    /// A file in it without which it is of no use.
    pub file: &'static str,
}

const ENGINE_X64: Package = Package {
    name: "@cloudflare/workerd-linux-64",
    version: ENGINE_VERSION,
    sha512: "gZLA8X11m/luZwn+YA3+mDu61vdxNJzpksP/QZqjydKTQ+VUCulsK5gtn9Bqst1p3KJu2kafQpJ1nDQv4B23jA==",
    size: 46_705_140,
    file: "bin/workerd",
};

const ENGINE_ARM64: Package = Package {
    name: "@cloudflare/workerd-linux-arm64",
    version: ENGINE_VERSION,
    sha512: "gxWngFojq41ULKNKb9rpWYvKotN5hT2I/xot+Bpy31cXzrwcTgtDLSMb2t75sW5BJxH7hihFvikgYb577kB3Zg==",
    size: 46_754_578,
    file: "bin/workerd",
};

const ESBUILD_X64: Package = Package {
    name: "@esbuild/linux-x64",
    version: ESBUILD_VERSION,
    sha512: "4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
    size: 4_741_809,
    file: "bin/esbuild",
};

const ESBUILD_ARM64: Package = Package {
    name: "@esbuild/linux-arm64",
    version: ESBUILD_VERSION,
    sha512: "pW4AC0P3it8c7do9MVM4p51FzHzdM/TZrerurgRcHJ2WTa1VQ1CIq18xncfpBJw4ojkiZZrKW2yIBWBP92j6Ug==",
    size: 4_283_627,
    file: "bin/esbuild",
};

/// Chrome's headless shell. Its versions are Chrome's.
pub(crate) const CHROMIUM_X64: Package = Package {
    name: "@sparticuz/chromium",
    version: "153.0.0",
    sha512: "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA==",
    size: 69_995_309,
    file: "bin/chromium.br",
};

/// Plain JavaScript, for every machine.
pub(crate) const UNENV: [Package; 3] = [
    Package {
        name: "unenv",
        version: "2.0.0-rc.24",
        sha512: "i7qRCmY42zmCwnYlh9H2SvLEypEFGye5iRmEMKjcGi7zk9UquigRjFtTLz0TYqr0ZGLZhaMHl/foy1bZR+Cwlw==",
        size: 161_279,
        file: "package.json",
    },
    Package {
        name: "@cloudflare/unenv-preset",
        version: "2.16.2",
        sha512: "JBP1+Z7ZSNG/d4mRP+y8VC5dka3tZVMLEZRvS+rzQ4DGV1EoxRFQckcJTTkXbHSQiTj0DtNI01Zwb/V2fX0mvQ==",
        size: 6_274,
        file: "package.json",
    },
    Package {
        name: "pathe",
        version: "2.0.3",
        sha512: "WUjGcAqP1gQacoQe+OBJsFA7Ld4DyXuUIjZ5cc75cLHvJ7dtNsTugphxIADwspS+AraAUePCKrSVtPLFj/F88w==",
        size: 10_514,
        file: "package.json",
    },
];

pub(crate) fn engine_package() -> Result<Package, ToolchainError> {
    for_machine(ENGINE_X64, ENGINE_ARM64)
}

pub(crate) fn esbuild_package() -> Result<Package, ToolchainError> {
    for_machine(ESBUILD_X64, ESBUILD_ARM64)
}

fn for_machine(x64: Package, arm64: Package) -> Result<Package, ToolchainError> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(x64),
        ("linux", "aarch64") => Ok(arm64),
        (os, arch) => Err(ToolchainError::Machine { os, arch }),
    }
}
