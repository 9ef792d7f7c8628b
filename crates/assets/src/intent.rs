//! `html_handling` and `not_found_handling`: which file a path means, or where it should have pointed.
//!
//! A redirect is given only when its target, taken without further redirects, is the same content: so
//! no chain of redirects can loop, and none leads to another page where several files compete for a path.

use crate::config::{HtmlHandling, NotFoundHandling};

/// The files, as the resolver needs to know them.
pub(crate) trait Files {
    /// A file.
    type File<'a>
    where
        Self: 'a;
    /// The file at exactly this name (decoded, starting with a slash).
    fn get(&self, name: &str) -> Option<Self::File<'_>>;
    /// Whether two files have the same content.
    fn same(a: &Self::File<'_>, b: &Self::File<'_>) -> bool;
    /// Bytes of the longest folder name that holds a `404.html`; `None` when no folder does.
    fn deepest_404(&self) -> Option<usize>;
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Intent<F> {
    /// This file, with status 200.
    Serve(F),
    /// This file, with status 404.
    NotFoundPage(F),
    /// The client should ask for this name (decoded).
    Redirect(String),
}

/// Says what `name` (decoded, starting with a slash) means.
pub(crate) fn resolve<'a, S: Files>(
    files: &'a S,
    html: HtmlHandling,
    not_found: NotFoundHandling,
    name: &str,
) -> Option<Intent<S::File<'a>>> {
    Resolver { files, html, not_found, redirects: true }.resolve(name)
}

struct Resolver<'a, S> {
    files: &'a S,
    html: HtmlHandling,
    not_found: NotFoundHandling,
    redirects: bool,
}

type Found<'a, S> = Option<Intent<<S as Files>::File<'a>>>;

impl<'a, S: Files> Resolver<'a, S> {
    fn resolve(&self, name: &str) -> Found<'a, S> {
        match self.html {
            HtmlHandling::AutoTrailingSlash => self.auto(name),
            HtmlHandling::ForceTrailingSlash => self.force(name),
            HtmlHandling::DropTrailingSlash => self.drop(name),
            HtmlHandling::None => self.serve(name),
        }
        .or_else(|| self.missing(name))
    }

    fn auto(&self, name: &str) -> Found<'a, S> {
        match Shape::of(name) {
            Shape::Index(dir) => self
                .serve(name)
                .or_else(|| self.redirect(&format!("{name}.html"), &format!("{dir}/")))
                .or_else(|| self.redirect(&format!("{dir}.html"), dir)),
            Shape::IndexHtml(dir) => {
                self.redirect(name, &format!("{dir}/")).or_else(|| self.redirect(&format!("{dir}.html"), dir))
            }
            Shape::Folder(dir) => self
                .serve(&format!("{name}index.html"))
                .or_else(|| self.redirect(&format!("{dir}.html"), dir)),
            Shape::Html(stem) => self
                .redirect(name, stem)
                .or_else(|| self.redirect(&format!("{stem}/index.html"), &format!("{stem}/"))),
            Shape::Plain => None,
        }
        .or_else(|| self.serve(name))
        .or_else(|| self.serve(&format!("{name}.html")))
        .or_else(|| self.redirect(&format!("{name}/index.html"), &format!("{name}/")))
    }

    fn force(&self, name: &str) -> Found<'a, S> {
        match Shape::of(name) {
            Shape::Index(dir) => self
                .serve(name)
                .or_else(|| self.redirect(&format!("{name}.html"), &format!("{dir}/")))
                .or_else(|| self.redirect(&format!("{dir}.html"), &format!("{dir}/"))),
            Shape::IndexHtml(dir) => self
                .redirect(name, &format!("{dir}/"))
                .or_else(|| self.redirect(&format!("{dir}.html"), &format!("{dir}/"))),
            Shape::Folder(dir) => {
                self.serve(&format!("{name}index.html")).or_else(|| self.serve(&format!("{dir}.html")))
            }
            Shape::Html(stem) => self
                .redirect(name, &format!("{stem}/"))
                // Where both foo.html and foo/index.html exist, the former has only its own path.
                .or_else(|| self.serve(name))
                .or_else(|| self.redirect(&format!("{stem}/index.html"), &format!("{stem}/"))),
            Shape::Plain => None,
        }
        .or_else(|| self.serve(name))
        .or_else(|| self.redirect(&format!("{name}.html"), &format!("{name}/")))
        .or_else(|| self.redirect(&format!("{name}/index.html"), &format!("{name}/")))
    }

    fn drop(&self, name: &str) -> Found<'a, S> {
        match Shape::of(name) {
            // The root keeps its slash.
            Shape::Index("") => self.serve(name).or_else(|| self.redirect("/index.html", "/")),
            Shape::IndexHtml("") => self.redirect("/index.html", "/"),
            Shape::Folder("") => self.serve("/index.html"),
            Shape::Index(dir) => self
                .serve(name)
                .or_else(|| self.redirect(&format!("{dir}.html"), dir))
                .or_else(|| self.redirect(&format!("{name}.html"), dir)),
            Shape::IndexHtml(dir) => self
                .redirect(name, dir)
                // Where both foo.html and foo/index.html exist, the latter has only its own path.
                .or_else(|| self.serve(name))
                .or_else(|| self.redirect(&format!("{dir}.html"), dir)),
            Shape::Folder(stem) | Shape::Html(stem) => self
                .redirect(&format!("{stem}.html"), stem)
                .or_else(|| self.redirect(&format!("{stem}/index.html"), stem)),
            Shape::Plain => None,
        }
        .or_else(|| self.serve(name))
        .or_else(|| self.serve(&format!("{name}.html")))
        .or_else(|| self.serve(&format!("{name}/index.html")))
    }

    fn serve(&self, file: &str) -> Found<'a, S> {
        self.files.get(file).map(Intent::Serve)
    }

    /// To `target`, if that is where `file`'s content is served.
    fn redirect(&self, file: &str, target: &str) -> Found<'a, S> {
        if !self.redirects || self.files.get(target).is_some() {
            return None;
        }
        let file = self.files.get(file)?;
        let direct = Resolver { redirects: false, ..*self };
        match direct.resolve(target)? {
            Intent::Serve(found) | Intent::NotFoundPage(found) if S::same(&found, &file) => {
                Some(Intent::Redirect(target.to_owned()))
            }
            _ => None,
        }
    }

    fn missing(&self, name: &str) -> Found<'a, S> {
        match self.not_found {
            NotFoundHandling::None => None,
            NotFoundHandling::SinglePageApplication => self.serve("/index.html"),
            NotFoundHandling::Page404 => self.nearest_404(name).map(Intent::NotFoundPage),
        }
    }

    fn nearest_404(&self, name: &str) -> Option<S::File<'a>> {
        let deepest = self.files.deepest_404()?;
        let mut folder = name;
        while let Some(slash) = folder.rfind('/') {
            folder = folder.get(..slash)?;
            if folder.len() <= deepest
                && let Some(page) = self.files.get(&format!("{folder}/404.html"))
            {
                return Some(page);
            }
        }
        None
    }
}

/// The forms of a path that HTML files care about, each with what precedes the ending.
enum Shape<'n> {
    Index(&'n str),
    IndexHtml(&'n str),
    Folder(&'n str),
    Html(&'n str),
    Plain,
}

impl<'n> Shape<'n> {
    fn of(name: &'n str) -> Self {
        if let Some(dir) = name.strip_suffix("/index") {
            Self::Index(dir)
        } else if let Some(dir) = name.strip_suffix("/index.html") {
            Self::IndexHtml(dir)
        } else if let Some(dir) = name.strip_suffix('/') {
            Self::Folder(dir)
        } else if let Some(stem) = name.strip_suffix(".html") {
            Self::Html(stem)
        } else {
            Self::Plain
        }
    }
}

#[cfg(test)]
#[path = "intent_tests.rs"]
mod tests;
