//! How large an instance is: Cloudflare's names, presets, and what an image needs. Pure.
//! <https://developers.cloudflare.com/containers/platform-details/limits/>

use serde_json::Value as Json;

pub use skep_config::size::{LITE, NAMED, Size, named};

/// The presets of `skep.deploy.toml`.
pub const PRESETS: [(&str, Size); 3] = [
    ("small", Size::new(2.0, 2048, 3072)),
    ("standard", Size::new(4.0, 4096, 6144)),
    ("large", Size::new(8.0, 8192, 12_288)),
];

fn find(list: &[(&str, Size)], name: &str) -> Option<Size> {
    list.iter().find(|(known, _)| *known == name).map(|(_, size)| *size)
}

/// `instance_type` of a configuration for a word of `skep.deploy.toml`: a preset, or else a name of Cloudflare's.
pub fn preset(word: &str) -> Result<Json, String> {
    if let Some(size) = find(&PRESETS, word) {
        return Ok(size.to_json());
    }
    match named(word) {
        Some(_) => Ok(word.into()),
        None => {
            let known: Vec<&str> = PRESETS.iter().chain(&NAMED).map(|(name, _)| *name).collect();
            Err(format!("\"{word}\" is not the size of a container: expected one of {}", known.join(", ")))
        }
    }
}

/// The name that Cloudflare has for a size that it tells in figures.
pub fn inferred(configuration: &Json) -> Option<&'static str> {
    let is_it = |(_, size): &&(&str, Size)| {
        configuration["vcpu"].as_f64() == Some(size.vcpu)
            && configuration["memory_mib"].as_u64() == Some(size.memory_mib)
            && configuration["disk"]["size_mb"].as_f64() == Some(size.disk_mb as f64)
    };
    // The old names are not what it is called now.
    NAMED.iter().filter(|(name, _)| !matches!(*name, "dev" | "standard")).find(is_it).map(|(name, _)| *name)
}

/// How a size is more than an account may have (`GET /containers/me`).
pub fn above_limits(size: Size, account: &Json) -> Option<String> {
    let limits = &account["limits"];
    let mut errors = Vec::new();
    if let Some(limit) = limits["vcpu_per_deployment"].as_f64().filter(|limit| size.vcpu > *limit) {
        errors.push(format!(
            "Your container configuration uses {} vCPU which exceeds the account limit of {limit} vCPU.",
            size.vcpu
        ));
    }
    if let Some(limit) = limits["memory_mib_per_deployment"].as_u64().filter(|limit| size.memory_mib > *limit)
    {
        errors.push(format!(
            "Your container configuration uses {} MiB of memory which exceeds the account limit of {limit} MiB.",
            size.memory_mib
        ));
    }
    if let Some(limit) = limits["disk_mb_per_deployment"].as_u64().filter(|limit| size.disk_mb > *limit) {
        errors.push(format!(
            "Your container configuration uses {} MB of disk which exceeds the account limit of {limit} MB.",
            size.disk_mb
        ));
    }
    (!errors.is_empty()).then(|| format!("Exceeded account limits: {}", errors.join(" ")))
}

/// Whether an image is too large for its disk. `inspected` is Docker's word on it: bytes, and how many layers.
pub fn image_too_large(inspected: &str, size: Size) -> Option<String> {
    const MB: f64 = 1_000_000.0;
    /// What the device mapper adds to a layer.
    const LAYER: f64 = (16 << 20) as f64;
    let mut words = inspected.split_whitespace();
    let bytes: f64 = words.next()?.parse().ok()?;
    let layers: f64 = words.next()?.parse().ok()?;
    let needed = (bytes * 1.1 + layers * LAYER).ceil();
    (needed > size.disk_mb as f64 * MB).then(|| {
        format!(
            "Image too large: needs {}MB, but your app is limited to images with size {}MB. You need more disk for this image.",
            (needed / MB).ceil(),
            size.disk_mb
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_word_is_a_preset_before_it_is_a_name_of_cloudflares() {
        assert_eq!(preset("small").unwrap(), json!({ "vcpu": 2, "memory_mib": 2048, "disk_mb": 3072 }));
        assert_eq!(preset("standard").unwrap(), json!({ "vcpu": 4, "memory_mib": 4096, "disk_mb": 6144 }));
        assert_eq!(preset("large").unwrap(), json!({ "vcpu": 8, "memory_mib": 8192, "disk_mb": 12288 }));
        assert_eq!(preset("standard-2").unwrap(), json!("standard-2"));
        assert!(preset("huge").unwrap_err().contains("small, standard, large, lite"));
    }

    #[test]
    fn sizes_in_figures_have_their_names_back() {
        let told = json!({ "vcpu": 0.5, "memory_mib": 4096, "disk": { "size_mb": 8000 } });
        assert_eq!(inferred(&told), Some("standard-1"));
        assert_eq!(
            inferred(&json!({ "vcpu": 0.0625, "memory_mib": 256, "disk": { "size_mb": 2000 } })),
            Some("lite")
        );
        assert_eq!(inferred(&json!({ "vcpu": 3, "memory_mib": 256, "disk": { "size_mb": 2000 } })), None);
    }

    #[test]
    fn limits_are_the_accounts_and_the_disks() {
        let account = json!({ "limits": { "vcpu_per_deployment": 4, "memory_mib_per_deployment": 12288, "disk_mb_per_deployment": 20000 } });
        assert_eq!(above_limits(named("standard-4").unwrap(), &account), None);
        let text = above_limits(find(&PRESETS, "large").unwrap(), &account).unwrap();
        assert_eq!(
            text,
            "Exceeded account limits: Your container configuration uses 8 vCPU which exceeds the account limit of 4 vCPU."
        );
        assert_eq!(image_too_large("1000000000 5", LITE), None);
        let text = image_too_large("1900000000 1", LITE).unwrap();
        assert!(
            text.starts_with(
                "Image too large: needs 2107MB, but your app is limited to images with size 2000MB."
            ),
            "{text}"
        );
    }
}
