//! The browser that comes as the npm package `@sparticuz/chromium`: Chrome's headless shell, compressed.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Program;

/// What is in the package's `bin`: the program, and archives of what has to lie beside it.
const PROGRAM: &str = "chromium";
const ARCHIVES: [(&str, &str); 3] = [("swiftshader", ""), ("fonts", ""), ("al2023", "libraries")];
const BUFFER: usize = 256 << 10;

/// Unpacks the package in `package` into the folder `into`, unless it is there, and says how its program is started. Blocking, for
/// seconds the first time. Two that unpack at once do not disturb each other: a folder appears whole.
pub fn unpack(package: &Path, into: &Path) -> io::Result<Program> {
    if !into.join(PROGRAM).is_file() {
        let beside = into.parent().unwrap_or(Path::new("."));
        let work = tempfile::Builder::new().prefix("unpack-").tempdir_in(beside)?;
        let folder = work.path().join("browser");
        for (name, below) in ARCHIVES {
            let archive = expand(&package.join(format!("bin/{name}.tar.br")))?;
            tar::Archive::new(archive).unpack(folder.join(below))?;
        }
        let mut program =
            File::options().write(true).create_new(true).mode(0o755).open(folder.join(PROGRAM))?;
        io::copy(&mut expand(&package.join(format!("bin/{PROGRAM}.br")))?, &mut program)?;
        program.sync_all()?;
        std::fs::write(folder.join("fonts.conf"), fonts(into))?;
        if let Err(error) = std::fs::rename(&folder, into)
            && !into.join(PROGRAM).is_file()
        {
            return Err(error);
        }
    }
    let mut environment = Vec::new();
    let program = into.join(PROGRAM);
    // On a machine without them it brings libraries along. Those of the machine are newer.
    let starts =
        Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !starts.success() {
        environment.push(("LD_LIBRARY_PATH".into(), into.join("libraries/lib").into()));
    }
    if !Path::new("/etc/fonts/fonts.conf").exists() {
        environment.push(("FONTCONFIG_FILE".into(), into.join("fonts.conf").into()));
    }
    Ok(Program { path: program, environment })
}

/// Where the fonts are, for a machine that has none.
fn fonts(into: &Path) -> String {
    let into = into.display();
    format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n\
         <fontconfig><dir>{into}/fonts</dir><cachedir>{into}/fonts-cache</cachedir></fontconfig>\n"
    )
}

fn expand(file: &Path) -> io::Result<impl io::Read + use<>> {
    let opened =
        File::open(file).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
    Ok(brotli::Decompressor::new(BufReader::with_capacity(BUFFER, opened), BUFFER))
}
