//! Landlock: rules on files, ports and signals that the kernel keeps, also where there is no mount namespace.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::cage::{Cage, SCRATCH};
use crate::jail::{Jail, JailError, Step};

/// The newest rules that we know; an older kernel keeps those that it knows.
const RULES: ABI = ABI::V6;
const LAYER: &str = "Landlock";
/// Harmless; the engine needs random numbers, and a library may write nowhere.
pub(crate) const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// Restricts this process.
pub(crate) fn restrict(jail: &Jail) -> Result<(), JailError> {
    let mut ports = BitFlags::from(AccessNet::BindTcp);
    if !jail.network {
        ports |= AccessNet::ConnectTcp;
    }
    let rules = Ruleset::default().handle_access(AccessFs::from_all(RULES)).step(LAYER)?;
    let rules = rules.handle_access(ports).step(LAYER)?;
    // One that the kernel chooses: no other's port can be waited for until it is free.
    let chosen = jail.listen.then(|| Ok::<_, RulesetError>(NetPort::new(0, AccessNet::BindTcp)));
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    // Nothing to run, no devices, and no links that could lead us astray when we use its folder ourselves.
    let own = AccessFs::from_all(RULES)
        & !(AccessFs::Execute
            | AccessFs::MakeSym
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeFifo);
    let status = rules
        .scope(Scope::from_all(RULES))
        .step(LAYER)?
        .create()
        .step(LAYER)?
        .add_rules(chosen)
        .step(LAYER)?
        .add_rules(path_beneath_rules(&jail.read, read))
        .step(LAYER)?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))
        .step(LAYER)?
        .add_rules(path_beneath_rules(&jail.list, AccessFs::ReadDir))
        .step(LAYER)?
        .add_rules(path_beneath_rules(&jail.write, own))
        .step(LAYER)?
        .restrict_self()
        .step(LAYER)?;
    enforced(status.ruleset)
}

/// Restricts this process and what it starts; its ports are in a network of its own.
pub(crate) fn restrict_many(cage: &Cage) -> Result<(), JailError> {
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let own = AccessFs::from_all(RULES) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))
        .step(LAYER)?
        .scope(Scope::from_all(RULES))
        .step(LAYER)?
        .create()
        .step(LAYER)?
        .add_rules(path_beneath_rules(&cage.read, read))
        .step(LAYER)?
        .add_rules(path_beneath_rules(["/proc"], AccessFs::ReadFile | AccessFs::ReadDir))
        .step(LAYER)?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))
        .step(LAYER)?
        .add_rules(path_beneath_rules([SCRATCH], own))
        .step(LAYER)?
        .restrict_self()
        .step(LAYER)?;
    enforced(status.ruleset)
}

fn enforced(status: RulesetStatus) -> Result<(), JailError> {
    match status {
        RulesetStatus::NotEnforced => Err("this kernel has none").step(LAYER),
        _ => Ok(()),
    }
}
