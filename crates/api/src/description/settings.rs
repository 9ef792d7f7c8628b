//! Settings.

use super::schema::{must, named, object};
use super::{About, FORM, about};

pub fn get() -> About {
    about("Get the settings of a Worker").gives(named("Settings"))
}

pub fn patch() -> About {
    about("Change the settings of a Worker: a new version, deployed")
        .takes_json(named("AskedSettings"))
        .takes(FORM, object([must("settings", named("AskedSettings"))]))
        .gives(named("Settings"))
}

pub fn get_script() -> About {
    about("Get the settings that no version has").gives(named("ScriptSettings"))
}

pub fn patch_script() -> About {
    about("Change the settings that no version has")
        .takes_json(named("AskedScriptSettings"))
        .gives(named("ScriptSettings"))
}
