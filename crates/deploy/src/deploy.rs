//! A deploy: what is there is read, a plan made, and its steps taken one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Client;
use crate::containers::config::Container;
use crate::containers::managed::{self, Images, Managed};
use crate::containers::{self, Tools};
use crate::error::ApiError;
use crate::plan::{Action, Plan, Planned, Step};
use crate::project::Project;
use crate::remote::{self, Remote, script_path};
use crate::resources::{self, Kind, Resource};
use crate::script::{self, Upload};
use crate::smoke::{self, Smoke};
use crate::{assets, d1, metadata, site, survey, templates, triggers, upload};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// Deploys into a dispatch namespace.
    pub dispatch_namespace: Option<String>,
    /// Variables that are not in the configuration stay.
    pub keep_vars: bool,
    /// `workers/message`
    pub message: Option<String>,
    /// `workers/tag`; by default one that names the content.
    pub tag: Option<String>,
    /// Uploads also what is there already.
    pub force: bool,
    /// Ids that are not there are an error: nothing is made in their place.
    pub strict_ids: bool,
    /// Takes custom domains over from other Workers.
    pub take_over_domains: bool,
    /// What images of containers are built and pushed with.
    pub tools: Tools,
    /// How containers get what is new.
    pub rollout: Rollout,
    /// Asks the deployed worker for an answer.
    pub smoke: bool,
    /// Goes back to the version before if that answer does not come.
    pub undo: bool,
}

/// How containers get what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// In the steps of the configuration.
    #[default]
    Gradual,
    /// All instances at once.
    Immediate,
    /// Not at all: neither images nor applications are touched.
    None,
}

/// Hears how it goes.
pub trait Reporter: Sync {
    /// A step begins.
    fn begins(&self, planned: &Planned);
    /// Bytes of the step's upload so far, and in all.
    fn progress(&self, done: u64, total: u64);
    /// A step is done.
    fn done(&self, planned: &Planned, detail: &str);
    /// Something to know.
    fn note(&self, text: &str);
}

/// What a deploy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The version that is in force.
    pub version: Option<String>,
    /// Where it answers.
    pub urls: Vec<String>,
    /// Steps that were taken.
    pub done: Vec<String>,
}

/// A deploy that ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Steps that were taken.
    pub done: Vec<String>,
    /// The step that failed, and why; `None` if a person stopped it.
    pub failed: Option<(String, String)>,
    /// Steps that were not taken.
    pub open: Vec<String>,
}

/// A deploy that is planned.
pub struct Deploy<'a> {
    pub(crate) client: &'a Client,
    pub(crate) project: &'a Project,
    pub(crate) options: DeployOptions,
    pub(crate) remote: Remote,
    pub(crate) resources: Vec<Resource>,
    /// The migrations that each resource lacks: names and texts.
    pub(crate) pending: Vec<Vec<(String, String)>>,
    pub(crate) containers: Vec<Container>,
    /// Containers that a Durable Object manages.
    pub(crate) managed: Vec<Managed>,
    /// Their images, as far as is known.
    managed_images: Images,
    pub(crate) plan: Plan,
    /// The image of each container, once it is in the registry.
    images: BTreeMap<usize, String>,
    assets_token: Option<String>,
    outcome: Outcome,
}

impl<'a> Deploy<'a> {
    /// Reads what is there and makes a plan. `target` is the server's name for people.
    pub async fn prepare(
        client: &'a Client,
        project: &'a Project,
        options: DeployOptions,
        target: &str,
    ) -> Result<Deploy<'a>, String> {
        let mut deploy = Self {
            client,
            project,
            options,
            remote: Remote::default(),
            resources: Vec::new(),
            pending: Vec::new(),
            containers: Vec::new(),
            managed: containers::config::managed(project).0,
            managed_images: Images::new(),
            plan: Plan::default(),
            images: BTreeMap::new(),
            assets_token: None,
            outcome: Outcome::default(),
        };
        deploy.containers = match deploy.options.rollout {
            Rollout::None => Vec::new(),
            rollout => {
                let all = containers::config::containers(project).0.into_iter();
                all.map(|own| if rollout == Rollout::Immediate { own.at_once() } else { own }).collect()
            }
        };
        deploy.managed_images = managed::known(client, &deploy.options.tools, &deploy.managed);
        deploy.plan.title = format!("{} → {target}", project.name());
        survey::read(&mut deploy).await?;
        survey::plan(&mut deploy).await?;
        Ok(deploy)
    }

    /// What will be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes the steps. `stop` ends it before the next one.
    pub async fn run(mut self, reporter: &dyn Reporter, stop: &AtomicBool) -> Result<Outcome, Failure> {
        let steps = self.plan.steps.clone();
        self.outcome.version.clone_from(&self.remote.version);
        for (n, planned) in steps.iter().enumerate() {
            if planned.action == Action::Keep {
                continue;
            }
            let failed = if stop.load(Ordering::Relaxed) {
                None
            } else {
                reporter.begins(planned);
                match self.take(planned, reporter).await {
                    Ok(detail) => {
                        reporter.done(planned, &detail);
                        if planned.action != Action::Check {
                            self.outcome.done.push(planned.subject.clone());
                        }
                        continue;
                    }
                    Err(error) => Some((planned.subject.clone(), error)),
                }
            };
            let skip = n + usize::from(failed.is_some());
            let open = steps.iter().skip(skip).filter(|step| step.action != Action::Keep);
            return Err(Failure {
                done: self.outcome.done,
                failed,
                open: open.map(|step| step.subject.clone()).collect(),
            });
        }
        self.outcome.urls = self.urls().await.unwrap_or_default();
        Ok(self.outcome)
    }

    async fn take(&mut self, planned: &Planned, reporter: &dyn Reporter) -> Result<String, String> {
        let text = |error: ApiError| error.to_string();
        let (client, project) = (self.client, self.project);
        match planned.step {
            Step::Create(at) => {
                let resource = self.resources.get_mut(at).ok_or("there is no such resource")?;
                resource.create(client).await.map_err(text)?;
                Ok(resource.id.clone().filter(|id| *id != resource.name).unwrap_or_default())
            }
            Step::Migrate(at) => self.migrate(at).await,
            Step::Assets => {
                let Some(files) = &project.assets else { return Ok(String::new()) };
                let path = script_path(self.options.dispatch_namespace.as_deref(), project.name());
                let progress = |done, total| reporter.progress(done, total);
                let uploaded = assets::upload(client, &path, files, &progress).await?;
                let detail = format!(
                    "{} of {} sent, {}",
                    uploaded.files,
                    counted(files.files.len() as u64, "file"),
                    size(uploaded.bytes)
                );
                self.assets_token = Some(uploaded.token);
                Ok(detail)
            }
            Step::Templates => {
                let Some(files) = &project.templates else { return Ok(String::new()) };
                let progress = |done, total| reporter.progress(done, total);
                templates::publish(client, files, &progress).await
            }
            Step::Site => {
                let Some(files) = &project.site else { return Ok(String::new()) };
                let namespace = self.site_namespace()?;
                let there = site::known(client, namespace).await.map_err(text)?;
                let (missing, _) = site::changes(files, &there);
                let progress = |done, total| reporter.progress(done, total);
                site::upload(client, namespace, &missing, &progress).await?;
                Ok(format!("{} of {} sent", missing.len(), counted(files.len() as u64, "file")))
            }
            Step::SiteLeftovers => {
                let Some(files) = &project.site else { return Ok(String::new()) };
                let namespace = self.site_namespace()?;
                let there = site::known(client, namespace).await.map_err(text)?;
                let (_, gone) = site::changes(files, &there);
                site::remove(client, namespace, &gone).await.map_err(text)?;
                Ok(format!("{} removed", counted(gone.len() as u64, "file")))
            }
            Step::Script => self.script(reporter).await,
            Step::Image(at) => {
                let own = self.containers.get(at).ok_or("there is no such container")?;
                let (image, is_pushed) = containers::image(client, &self.options.tools, own).await?;
                self.images.insert(at, image.clone());
                match is_pushed {
                    true => self.outcome.done.push(planned.subject.clone()),
                    false => return Ok(format!("is there already, {image}")),
                }
                Ok(image)
            }
            Step::ManagedImages => {
                let (images, count) =
                    managed::prepare(client, &self.options.tools, project, &self.managed).await?;
                self.managed_images = images;
                Ok(format!("{} ready to run", counted(count as u64, "image")))
            }
            Step::Application(at) => {
                let own = self.managed.get(at).ok_or("there is no such container")?;
                let version = self.outcome.version.as_deref();
                match managed::apply(client, project, own, version).await? {
                    None => Ok("nothing had to change".to_owned()),
                    Some(done) => {
                        self.outcome.done.push(planned.subject.clone());
                        Ok(done)
                    }
                }
            }
            Step::Container(at) => {
                let own = self.containers.get(at).ok_or("there is no such container")?;
                let image = match self.images.get(&at) {
                    Some(image) => image.clone(),
                    None => containers::image(client, &self.options.tools, own).await?.0,
                };
                let version = self.outcome.version.as_deref();
                match containers::apply(client, project, own, &image, version).await? {
                    None => Ok("nothing had to change".to_owned()),
                    Some(done) => {
                        if planned.action == Action::Check {
                            self.outcome.done.push(planned.subject.clone());
                        }
                        Ok(done)
                    }
                }
            }
            Step::Subdomain => {
                triggers::set_subdomain(client, project).await.map_err(text)?;
                Ok(String::new())
            }
            Step::Routes => triggers::set_routes(client, project).await.map(|()| String::new()),
            Step::Domains => {
                let take_over = self.options.take_over_domains;
                triggers::set_domains(client, project, take_over).await.map(|()| String::new())
            }
            Step::Crons => {
                triggers::set_crons(client, project).await.map_err(text)?;
                Ok(String::new())
            }
            Step::Consumer(at) => {
                let own =
                    project.list(&["queues", "consumers"]).get(at).ok_or("there is no such consumer")?;
                let is_its = |resource: &&Resource| {
                    resource.kind == Kind::Queue && own["queue"] == resource.name.as_str()
                };
                let queue = self.resources.iter().find(is_its).and_then(|queue| queue.id.as_deref());
                let queue = queue.ok_or("the queue is not there")?;
                triggers::set_consumer(client, project, own, queue).await.map_err(text)?;
                Ok(String::new())
            }
            Step::Workflow(at) => {
                let all = triggers::own_workflows(project);
                let own = all.get(at).ok_or("there is no such Workflow")?;
                triggers::set_workflow(client, project, own).await.map_err(text)?;
                Ok(String::new())
            }
            Step::Smoke => self.smoke(reporter).await,
        }
    }

    /// The namespace of the site's files.
    pub(crate) fn site_namespace(&self) -> Result<&str, String> {
        let own = self.resources.iter().find(|own| own.binding.as_deref() == Some(site::CONTENT));
        own.and_then(|own| own.id.as_deref()).ok_or_else(|| "the site's namespace is not there".to_owned())
    }

    async fn migrate(&self, at: usize) -> Result<String, String> {
        let resource = self.resources.get(at).ok_or("there is no such resource")?;
        let binding = resource.binding.as_deref().unwrap_or_default();
        let id = resource.id.as_deref().ok_or("the database is not there")?;
        let table = survey::migrations_table(self.project, binding);
        for (before, (name, sql)) in self.pending.get(at).into_iter().flatten().enumerate() {
            let result = d1::apply(self.client, id, &table, name, sql).await;
            result.map_err(|error| format!("the migration {name}, after {before} others: {error}"))?;
        }
        Ok(String::new())
    }

    /// How the script is to be uploaded, now that all resources are there.
    pub(crate) fn upload(&self) -> Upload<'_> {
        Upload {
            namespace: self.options.dispatch_namespace.as_deref(),
            keep_vars: self.options.keep_vars || self.project.raw["keep_vars"] == true,
            message: self.options.message.as_deref(),
            tag: self.options.tag.as_deref(),
            assets_token: self.assets_token.clone(),
            images: self.managed_images.clone(),
        }
    }

    /// The tag that names the content.
    pub(crate) fn content_tag(&self) -> String {
        let ids = resources::ids(&self.resources);
        let extras = script::extras(self.project, &self.remote, &ids, &self.upload());
        script::content_tag(&upload::digest(self.project, &metadata::metadata(self.project, &extras)))
    }

    async fn script(&mut self, reporter: &dyn Reporter) -> Result<String, String> {
        let ids = resources::ids(&self.resources);
        let own_tag = self.content_tag();
        let mut upload = self.upload();
        if upload.tag.is_none() && upload.namespace.is_none() {
            upload.tag = Some(&own_tag);
        }
        let done = script::deploy(self.client, self.project, &self.remote, &ids, &upload).await;
        let done = done.map_err(|error| error.to_string())?;
        done.notes.iter().for_each(|note| reporter.note(note));
        self.outcome.version = done.version;
        Ok(self.outcome.version.as_ref().map(|id| format!("version {id}")).unwrap_or_default())
    }

    async fn smoke(&self, reporter: &dyn Reporter) -> Result<String, String> {
        let urls = self.urls().await.map_err(|error| error.to_string())?;
        let Some(url) = urls.into_iter().find(|url| url.starts_with("http")) else {
            return Ok("there is no address to ask".to_owned());
        };
        // Whether a domain of one's own leads here is a matter of its DNS, not of this deploy.
        let is_domain =
            triggers::domain_names(self.project).iter().any(|host| url == format!("https://{host}"));
        let error = match smoke::request(self.client, &url).await {
            Smoke::Answers(status) => return Ok(format!("HTTP {status} from {url}")),
            Smoke::Unreachable(error) if is_domain => {
                reporter.note(&format!("{url} was not asked: {error}"));
                return Ok(String::new());
            }
            Smoke::Unreachable(error) | Smoke::Fails(error) => error,
        };
        match &self.remote.version {
            Some(before) if self.options.undo && self.outcome.version.as_ref() != Some(before) => {
                let back = script::put_in_force(self.client, self.project, before, Some("Rollback")).await;
                back.map_err(|e| format!("{error}; and the version before cannot be put in force: {e}"))?;
                reporter.note(&format!("the version {before} is in force again"));
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Where the script answers.
    async fn urls(&self) -> Result<Vec<String>, ApiError> {
        if self.options.dispatch_namespace.is_some() {
            return Ok(Vec::new());
        }
        let name = self.project.name();
        let mut urls = Vec::new();
        let own = remote::subdomain(self.client, &resources::encode(name)).await?;
        match own.url {
            Some(url) if own.enabled => urls.push(url),
            _ if own.enabled => {
                let account =
                    self.client.find("{account}/workers/subdomain", &[10007]).await?.unwrap_or_default();
                if let Some(account) = account["subdomain"].as_str() {
                    urls.push(format!("https://{name}.{account}.workers.dev"));
                }
            }
            _ => {}
        }
        urls.extend(triggers::domain_names(self.project).iter().map(|host| format!("https://{host}")));
        let (routes, _) = triggers::routes(self.project);
        urls.extend(routes.iter().filter_map(|route| route["pattern"].as_str().map(str::to_owned)));
        Ok(urls)
    }
}

/// `1 file`, `2 files`
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
