//! Reads what is on the server and says what has to change.

use futures_util::future::try_join_all;

use crate::containers::{self, config::Image, managed::Managed};
use crate::deploy::{Deploy, Rollout, counted, size};
use crate::error::ApiError;
use crate::plan::{Action, Step};
use crate::project::Project;
use crate::remote;
use crate::resources::{self, Kind, Resource};
use crate::{check, d1, metadata, script, site, templates, triggers, upload};

/// Reads the script's state and looks every resource up.
pub(crate) async fn read(deploy: &mut Deploy<'_>) -> Result<(), String> {
    let text = |error: ApiError| error.to_string();
    let (client, project) = (deploy.client, deploy.project);
    let namespace = deploy.options.dispatch_namespace.as_deref();
    deploy.remote = match namespace {
        Some(namespace) => remote::dispatched(client, namespace, project.name()).await.map_err(text)?,
        None => remote::script(client, project.name()).await.map_err(text)?,
    };
    let mut all = resources::needed(project, namespace);
    let before = &deploy.remote.bindings;
    try_join_all(all.iter_mut().map(|resource| resource.find(client, before))).await.map_err(text)?;
    let mut problems = problems(deploy, &all);
    problems.extend(containers(deploy).await?);
    if !problems.is_empty() {
        return Err(format!("this project cannot be deployed yet:\n  {}", problems.join("\n  ")));
    }
    let pending = all.iter().map(|resource| pending(deploy, resource));
    let pending = try_join_all(pending).await.map_err(text)?;
    (deploy.resources, deploy.pending) = (all, pending);
    Ok(())
}

/// Everything that stands in the way and is known before the first step.
fn problems(deploy: &Deploy<'_>, resources: &[Resource]) -> Vec<String> {
    let mut problems = check::problems(deploy.project);
    let secrets = script::required_secrets(deploy.project);
    let missing = secrets.iter().filter(|name| !deploy.remote.secrets.contains(name));
    problems.extend(
        missing.map(|name| format!("the secret {name} is required and not set: give it with --secrets-file")),
    );
    problems.extend(resources.iter().filter_map(Resource::cannot_be_made));
    let foreign = resources.iter().filter(|own| own.id.is_none() && own.has_foreign_id());
    problems.extend(foreign.filter(|_| deploy.options.strict_ids).map(|own| {
        let id = own.asked.as_deref().unwrap_or_default();
        format!("the configuration names the {} {id}, which is not in this account", own.kind.title())
    }));
    problems
}

/// What stands in the way of the containers.
async fn containers(deploy: &Deploy<'_>) -> Result<Vec<String>, String> {
    let managed = &deploy.managed;
    let mut problems = containers::problems_of_managed(deploy.client, &deploy.options.tools, managed).await?;
    if !managed.is_empty() && deploy.options.rollout == Rollout::None {
        problems.push(
            "images that a Durable Object manages are part of the script's version: --containers-rollout none cannot leave them out"
                .to_owned(),
        );
    }
    if !managed.is_empty() && deploy.options.dispatch_namespace.is_some() {
        let names: Vec<&str> = managed.iter().map(|own| own.name.as_str()).collect();
        problems.push(format!("scripts of a dispatch namespace have no containers: {}", names.join(", ")));
    }
    let more = match deploy.containers.as_slice() {
        [] => Ok(Vec::new()),
        all if deploy.options.dispatch_namespace.is_some() => {
            let names: Vec<&str> = all.iter().map(|own| own.name.as_str()).collect();
            Ok(vec![format!("scripts of a dispatch namespace have no containers: {}", names.join(", "))])
        }
        all => containers::problems(deploy.client, &deploy.options.tools, all).await,
    };
    problems.extend(more?);
    Ok(problems)
}

/// The migrations that a database lacks.
async fn pending(deploy: &Deploy<'_>, resource: &Resource) -> Result<Vec<(String, String)>, ApiError> {
    let binding = resource.binding.as_deref().unwrap_or_default();
    let Some(all) = deploy.project.d1_migrations.get(binding).filter(|_| resource.kind == Kind::D1) else {
        return Ok(Vec::new());
    };
    let applied = match &resource.id {
        None => Vec::new(),
        Some(id) => d1::applied(deploy.client, id, &migrations_table(deploy.project, binding)).await?,
    };
    Ok(all.iter().filter(|(name, _)| !applied.contains(name)).cloned().collect())
}

pub(crate) fn migrations_table(project: &Project, binding: &str) -> String {
    let own = project.config.d1_databases.iter().find(|own| own.binding == binding);
    own.map_or_else(|| "d1_migrations".to_owned(), |own| own.migrations_table.clone())
}

/// Makes the plan.
pub(crate) async fn plan(deploy: &mut Deploy<'_>) -> Result<(), String> {
    for (at, resource) in deploy.resources.iter().enumerate() {
        let subject = format!("{} {}", resource.kind.title(), resource.name);
        let detail = resource.binding.as_deref().map(|binding| format!("env.{binding}")).unwrap_or_default();
        let action = if resource.id.is_some() { Action::Keep } else { Action::Create };
        deploy.plan.add(Step::Create(at), action, subject, detail);
    }
    for (at, pending) in deploy.pending.iter().enumerate().filter(|(_, pending)| !pending.is_empty()) {
        let names: Vec<&str> = pending.iter().map(|(name, _)| name.as_str()).collect();
        let name = deploy.resources.get(at).map(|own| own.name.as_str()).unwrap_or_default();
        deploy.plan.add(Step::Migrate(at), Action::Change, format!("migrations of {name}"), names.join(", "));
    }
    plan_templates(deploy).await.map_err(|error| error.to_string())?;
    plan_images(deploy);
    let leftovers = plan_site(deploy).await.map_err(|error| error.to_string())?;
    plan_script(deploy);
    plan_containers(deploy).await?;
    if deploy.options.dispatch_namespace.is_none() {
        plan_addresses(deploy);
        plan_events(deploy).await.map_err(|error| error.to_string())?;
        if deploy.options.smoke {
            deploy.plan.add(Step::Smoke, Action::Check, "request", "whether the worker answers");
        }
    }
    // Until the new code is in force the old one reads by the old keys.
    if leftovers > 0 {
        let detail = counted(leftovers as u64, "file");
        deploy.plan.add(Step::SiteLeftovers, Action::Change, "files that left the site", detail);
    }
    Ok(())
}

async fn plan_templates(deploy: &mut Deploy<'_>) -> Result<(), ApiError> {
    let Some(own) = &deploy.project.templates else { return Ok(()) };
    let bucket = deploy.resources.iter().find(|r| r.kind == Kind::R2 && r.name == own.bucket);
    let exists = bucket.is_some_and(|bucket| bucket.id.is_some());
    let manifest = if exists { templates::manifest(deploy.client, own).await? } else { None };
    let (changed, gone) = templates::changes(own, manifest.as_ref());
    let action = match (&manifest, changed.is_empty() && gone.is_empty()) {
        (None, _) => Action::Create,
        (Some(_), true) => Action::Keep,
        (Some(_), false) => Action::Change,
    };
    let bytes = changed.iter().map(|file| file.size).sum();
    let detail =
        format!("{} of {} files, {}, {} to delete", changed.len(), own.files.len(), size(bytes), gone.len());
    deploy.plan.add(Step::Templates, action, format!("templates in {}", own.bucket), detail);
    Ok(())
}

/// How many keys of the site's namespace no file has.
async fn plan_site(deploy: &mut Deploy<'_>) -> Result<usize, ApiError> {
    let Some(files) = &deploy.project.site else { return Ok(0) };
    let there = match deploy.site_namespace() {
        Ok(namespace) => site::known(deploy.client, namespace).await?,
        Err(_) => Default::default(),
    };
    let (missing, gone) = site::changes(files, &there);
    let action = if missing.is_empty() { Action::Keep } else { Action::Change };
    let bytes = missing.iter().map(|file| file.size).sum();
    let detail = format!("{} of {}, {}", missing.len(), counted(files.len() as u64, "file"), size(bytes));
    deploy.plan.add(Step::Site, action, "Workers Site", detail);
    Ok(gone.len())
}

fn plan_images(deploy: &mut Deploy<'_>) {
    let managed: usize = deploy.managed.iter().map(|own| own.images.len()).sum();
    if managed > 0 {
        let names: Vec<&str> = deploy.managed.iter().map(|own| own.name.as_str()).collect();
        let detail = format!("{}, pushed if it is not there", counted(managed as u64, "image"));
        deploy.plan.add(
            Step::ManagedImages,
            Action::Check,
            format!("images of {}", names.join(", ")),
            detail,
        );
    }
    for (at, own) in deploy.containers.iter().enumerate() {
        if let Image::Dockerfile { file, .. } = &own.image {
            let file = file.strip_prefix(&deploy.project.config.dir).unwrap_or(file);
            let detail = format!("{}, pushed if it is not there", file.display());
            deploy.plan.add(Step::Image(at), Action::Check, format!("image of {}", own.name), detail);
        }
    }
}

async fn plan_containers(deploy: &mut Deploy<'_>) -> Result<(), String> {
    for (at, own) in deploy.managed.iter().enumerate() {
        let detail = format!("{}, managed by its objects", own.class);
        deploy.plan.add(Step::Application(at), Action::Check, format!("container {}", own.name), detail);
    }
    for (at, own) in deploy.containers.iter().enumerate() {
        let before = containers::application(deploy.client, &own.name).await.map_err(|e| e.to_string())?;
        let image = containers::reference(deploy.client, &deploy.options.tools, &own.image)?;
        let action = match (&before, image) {
            (None, _) => Action::Create,
            // Which image it is shows when it is built.
            (Some(_), None) => Action::Check,
            (Some(before), Some(image)) => {
                match deploy.remote.exists && containers::is_kept(deploy.project, own, &image, before) {
                    true => Action::Keep,
                    false => Action::Change,
                }
            }
        };
        let size = own.instance_type.clone().unwrap_or_else(|| own.size.to_string());
        let detail = format!("{}, up to {} of {size}", own.class, own.max_instances);
        deploy.plan.add(Step::Container(at), action, format!("container {}", own.name), detail);
    }
    Ok(())
}

fn plan_script(deploy: &mut Deploy<'_>) {
    let project = deploy.project;
    let all_there = deploy.resources.iter().all(|resource| resource.id.is_some());
    let migrations =
        metadata::migrations(project.list(&["migrations"]), deploy.remote.migration_tag.as_deref());
    let is_built =
        |own: &Managed| own.images.iter().any(|(_, image)| matches!(image, Image::Dockerfile { .. }));
    let same = all_there
        // Which images a version has shows when they are built.
        && !deploy.managed.iter().any(is_built)
        && migrations.is_none()
        && project.secrets.is_empty()
        && !deploy.options.force
        && deploy.options.message.is_none()
        && deploy.options.tag.is_none()
        && deploy.remote.version_tag.as_ref() == Some(&deploy.content_tag());
    let action = match (same, deploy.remote.exists) {
        (true, _) => Action::Keep,
        (false, true) => Action::Change,
        (false, false) => Action::Create,
    };
    if let Some(assets) = &project.assets {
        let bytes = assets.files.iter().map(|file| file.size).sum();
        let detail = format!("{}, {}", counted(assets.files.len() as u64, "file"), size(bytes));
        deploy.plan.add(Step::Assets, action, "static assets", detail);
    }
    let mut detail = match &project.code {
        Some(code) => {
            format!("{}, {}", counted(code.modules.len() as u64, "module"), size(upload::code_size(project)))
        }
        None => "assets alone".to_owned(),
    };
    if let Some(own) = migrations {
        let tag = own["new_tag"].as_str().unwrap_or_default();
        detail.push_str(&format!(", Durable Object migrations up to {tag}"));
    }
    if !project.secrets.is_empty() {
        detail.push_str(&format!(", {}", counted(project.secrets.len() as u64, "secret")));
    }
    deploy.plan.add(Step::Script, action, format!("script {}", project.name()), detail);
}

fn plan_addresses(deploy: &mut Deploy<'_>) {
    let (project, remote) = (deploy.project, &deploy.remote);
    let (enabled, previews) = triggers::wanted_subdomain(project);
    let now = (remote.subdomain.enabled, remote.subdomain.previews);
    let action = match remote.exists && now == (enabled, previews.unwrap_or(enabled)) {
        true => Action::Keep,
        false => Action::Change,
    };
    let state = if enabled { "on" } else { "off" };
    let (routes, domains) = triggers::routes(project);
    let mut hosts = triggers::domain_names(project);
    hosts.sort();
    let mut known = remote.domains.clone();
    known.sort();
    deploy.plan.add(Step::Subdomain, action, "address below the account's domain", state);
    if !routes.is_empty() {
        let patterns: Vec<&str> = routes.iter().filter_map(|route| route["pattern"].as_str()).collect();
        deploy.plan.add(Step::Routes, Action::Change, "routes", patterns.join(", "));
    }
    if !domains.is_empty() {
        let action = if hosts == known { Action::Keep } else { Action::Change };
        deploy.plan.add(Step::Domains, action, "custom domains", hosts.join(", "));
    }
}

async fn plan_events(deploy: &mut Deploy<'_>) -> Result<(), ApiError> {
    let (client, project) = (deploy.client, deploy.project);
    if let Some(crons) = triggers::crons(project) {
        let action = if crons == deploy.remote.crons { Action::Keep } else { Action::Change };
        deploy.plan.add(Step::Crons, action, "schedules", crons.join(", "));
    }
    for (at, own) in project.list(&["queues", "consumers"]).iter().enumerate() {
        let body = triggers::consumer_body(project, own);
        let action = match triggers::find_consumer(client, project, own, &body).await? {
            Some((_, true)) => Action::Keep,
            Some((_, false)) => Action::Change,
            None => Action::Create,
        };
        let name = own["queue"].as_str().unwrap_or_default();
        deploy.plan.add(Step::Consumer(at), action, format!("consumer of {name}"), "");
    }
    for (at, own) in triggers::own_workflows(project).iter().enumerate() {
        let action = match triggers::workflow_is_kept(client, project, own).await? {
            Some(true) => Action::Keep,
            Some(false) => Action::Change,
            None => Action::Create,
        };
        let name = own["name"].as_str().unwrap_or_default();
        let class = own["class_name"].as_str().unwrap_or_default();
        deploy.plan.add(Step::Workflow(at), action, format!("Workflow {name}"), class);
    }
    Ok(())
}
