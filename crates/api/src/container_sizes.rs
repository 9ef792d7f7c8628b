//! How large instances of containers are. Pure.
//! <https://developers.cloudflare.com/containers/platform-details/limits/>

use serde_json::{Value as Json, json};

/// What an instance has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceSize {
    /// Processors.
    pub vcpu: f64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Disk, in MB.
    pub disk_mb: u64,
}

const fn size(vcpu: f64, memory_mib: u64, disk_mb: u64) -> InstanceSize {
    InstanceSize { vcpu, memory_mib, disk_mb }
}

/// Those that have a name. Two have an older name, too.
pub(crate) const TYPES: [(&str, InstanceSize); 8] = [
    ("lite", size(0.0625, 256, 2000)),
    ("basic", size(0.25, 1024, 4000)),
    ("standard-1", size(0.5, 4096, 8000)),
    ("standard-2", size(1.0, 6144, 12_000)),
    ("standard-3", size(2.0, 8192, 16_000)),
    ("standard-4", LARGEST),
    ("dev", size(0.0625, 256, 2000)),
    ("standard", size(0.5, 4096, 8000)),
];
/// The most that there is.
pub(crate) const LARGEST: InstanceSize = size(4.0, 12_288, 20_000);
/// Where nothing is said.
pub(crate) const SMALLEST: InstanceSize = TYPES[0].1;

/// The size that a configuration asks for. The error is for the one who wrote it.
pub(crate) fn read(configuration: &Json) -> Result<InstanceSize, String> {
    let (vcpu, memory, disk) =
        (&configuration["vcpu"], &configuration["memory_mib"], &configuration["disk"]["size_mb"]);
    let has_figures = [vcpu, memory, disk].iter().any(|figure| !figure.is_null());
    let base = match configuration["instance_type"].as_str() {
        Some(_) if has_figures => {
            return Err("instance_type cannot be set together with vcpu, memory_mib and disk".to_owned());
        }
        Some(name) => {
            let known = TYPES.iter().find(|(own, _)| *own == name).map(|(_, size)| *size);
            let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            known.ok_or_else(|| format!("instance_type \"{name}\" is none of {}", names.join(", ")))?
        }
        None => SMALLEST,
    };
    let figure = |value: &Json, name: &str, default: f64, most: f64| match value {
        Json::Null => Ok(default),
        value => match value.as_f64() {
            Some(number) if number > 0.0 && number <= most => Ok(number),
            _ => Err(format!("{name} must be a number above 0 and at most {most}")),
        },
    };
    // Whole numbers, as the description says of both.
    let whole = |value: &Json, name: &str, default: u64, most: u64| {
        figure(value, name, default as f64, most as f64).map(|number| number.ceil() as u64)
    };
    Ok(InstanceSize {
        vcpu: figure(vcpu, "vcpu", base.vcpu, LARGEST.vcpu)?,
        memory_mib: whole(memory, "memory_mib", base.memory_mib, LARGEST.memory_mib)?,
        disk_mb: whole(disk, "disk.size_mb", base.disk_mb, LARGEST.disk_mb)?,
    })
}

/// Says the size of a configuration in figures, as Cloudflare does: wrangler knows the type by them.
pub(crate) fn spell_out(configuration: &mut Json) -> Result<(), String> {
    let size = read(configuration)?;
    if let Some(fields) = configuration.as_object_mut() {
        fields.remove("instance_type");
        fields.insert("vcpu".into(), json!(size.vcpu));
        fields.insert("memory_mib".into(), size.memory_mib.into());
        fields.insert("disk".into(), json!({ "size_mb": size.disk_mb }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_or_figures_say_the_size() {
        assert_eq!(read(&json!({})), Ok(SMALLEST));
        assert_eq!(read(&json!({ "instance_type": "standard" })), Ok(TYPES[2].1));
        let own = json!({ "vcpu": 0.5, "memory_mib": 300, "disk": { "size_mb": 2500.5 } });
        assert_eq!(read(&own), Ok(size(0.5, 300, 2501)));
        for wrong in [
            json!({ "instance_type": "huge" }),
            json!({ "instance_type": "lite", "vcpu": 1 }),
            json!({ "vcpu": 0 }),
            json!({ "vcpu": 4.5 }),
            json!({ "memory_mib": -1 }),
            json!({ "memory_mib": "1GiB" }),
            json!({ "disk": { "size_mb": 20_001 } }),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        let mut named = json!({ "image": "i", "instance_type": "basic" });
        spell_out(&mut named).unwrap();
        let figures = json!({ "image": "i", "vcpu": 0.25, "memory_mib": 1024, "disk": { "size_mb": 4000 } });
        assert_eq!(named, figures);
        let before = named.clone();
        spell_out(&mut named).unwrap();
        assert_eq!(named, before);
    }
}
