//! What a deploy will do, before it does it.

use serde_json::{Value as Json, json};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a resource that is missing: its place in the list of resources.
    Create(usize),
    /// Applies the pending SQL migrations of a resource.
    Migrate(usize),
    /// Publishes templates to their bucket.
    Templates,
    /// Builds and pushes a container's image: its place in the configuration.
    Image(usize),
    /// Builds, pushes and prepares the images of containers that a Durable Object manages.
    ManagedImages,
    /// Uploads static assets that the server lacks.
    Assets,
    /// Uploads files of a Workers Site that its namespace lacks.
    Site,
    /// Removes what no file of the site is any more.
    SiteLeftovers,
    /// Uploads the code and puts it in force.
    Script,
    /// Makes or changes a container's application: its place in the configuration.
    Container(usize),
    /// Makes or changes the application of a container that a Durable Object manages: its place among these.
    Application(usize),
    /// Switches the address below the account's domain.
    Subdomain,
    /// Sets the routes.
    Routes,
    /// Sets the custom domains.
    Domains,
    /// Sets the schedules.
    Crons,
    /// Sets a queue's consumer: its place in the configuration.
    Consumer(usize),
    /// Declares a Workflow: its place in the configuration.
    Workflow(usize),
    /// Asks the deployed worker for an answer.
    Smoke,
}

/// What a step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something new.
    Create,
    /// Something that is there.
    Change,
    /// Nothing: all is as it should be.
    Keep,
    /// Nothing: it is looked at.
    Check,
}

impl Action {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Keep => "keep",
            Self::Check => "check",
        }
    }
}

/// A step with what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// What it changes.
    pub action: Action,
    /// Of what.
    pub subject: String,
    /// More of it.
    pub detail: String,
}

/// The steps in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The script, and where it goes.
    pub title: String,
    /// The steps.
    pub steps: Vec<Planned>,
}

impl Plan {
    pub(crate) fn add(
        &mut self,
        step: Step,
        action: Action,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.steps.push(Planned { step, action, subject: subject.into(), detail: detail.into() });
    }

    /// Whether anything changes.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|planned| matches!(planned.action, Action::Keep | Action::Check))
    }

    /// As a tree.
    pub fn tree(&self) -> String {
        let width = self.steps.iter().map(|planned| planned.subject.chars().count()).max().unwrap_or(0);
        let mut text = self.title.clone();
        for (n, planned) in self.steps.iter().enumerate() {
            let branch = if n + 1 == self.steps.len() { "└─" } else { "├─" };
            let Planned { action, subject, detail, .. } = planned;
            let line = format!("\n{branch} {:<6} {subject:<width$}  {detail}", action.name());
            text.push_str(line.trim_end());
        }
        text
    }

    /// As JSON.
    pub fn to_json(&self) -> Json {
        let steps = self.steps.iter().map(|planned| {
            json!({ "action": planned.action.name(), "subject": planned.subject, "detail": planned.detail })
        });
        json!({ "title": self.title, "steps": steps.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_tree() {
        let mut plan = Plan { title: "hive → here".into(), steps: Vec::new() };
        plan.add(Step::Create(0), Action::Create, "KV namespace a", "SETTINGS");
        plan.add(Step::Script, Action::Keep, "script", "");
        assert_eq!(plan.tree(), "hive → here\n├─ create KV namespace a  SETTINGS\n└─ keep   script");
        assert!(!plan.is_empty());
        assert_eq!(plan.to_json()["steps"][0]["action"], "create");
    }
}
