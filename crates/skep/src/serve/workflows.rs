//! What the API keeps of Workflows, as their cells are made of it.

use serde_json::Value as Json;
use skep_catalog::{Catalog, Kind};
use skep_config::{WorkerConfig, WorkflowSettings};

/// The settings of a Workflow's resource.
pub fn settings_of(kept: &Json) -> WorkflowSettings {
    let number = |value: &Json| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let retention = |key: &str| Some(kept["default_retention"][key].clone()).filter(|ms| !ms.is_null());
    let schedules = kept["schedules"].as_array().into_iter().flatten();
    WorkflowSettings {
        schedules: schedules.filter_map(|cron| cron.as_str().map(str::to_owned)).collect(),
        steps: number(&kept["limits"]["steps"]),
        concurrency: number(&kept["concurrency"]["limit"]),
        success_retention: retention("success_retention"),
        error_retention: retention("error_retention"),
    }
}

/// Gives the Workflows of a script what was said of them, and of all of the account.
pub fn fill(config: &mut WorkerConfig, catalog: &Catalog) -> Result<(), String> {
    if config.workflows.is_empty() && config.exported_workflows.is_empty() {
        return Ok(());
    }
    let defaults = catalog.resource(Kind::Defaults, "workflows").map_err(|e| e.to_string())?;
    let defaults = defaults.map(|row| settings_of(&row.settings)).unwrap_or_default();
    let bound = config.workflows.iter_mut().map(|own| (&own.name, &mut own.settings));
    let exported = config.exported_workflows.iter_mut().map(|own| (&own.name, &mut own.settings));
    for (name, settings) in bound.chain(exported) {
        let row = catalog.resource(Kind::Workflow, name).map_err(|e| e.to_string())?;
        let own = row.map(|row| settings_of(&row.settings)).unwrap_or_default();
        *settings = WorkflowSettings {
            success_retention: own.success_retention.or_else(|| defaults.success_retention.clone()),
            error_retention: own.error_retention.or_else(|| defaults.error_retention.clone()),
            ..own
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_keeps_is_read() {
        let kept = json!({ "schedules": ["* * * * *"], "limits": { "steps": 3 }, "concurrency": { "limit": 2 },
            "default_retention": { "error_retention": 5 } });
        let settings = WorkflowSettings {
            schedules: vec!["* * * * *".into()],
            steps: Some(3),
            concurrency: Some(2),
            success_retention: None,
            error_retention: Some(5.into()),
        };
        assert_eq!(settings_of(&kept), settings);
        assert_eq!(settings_of(&json!({})), WorkflowSettings::default());
    }
}
