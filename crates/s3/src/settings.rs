//! What is set for a bucket: CORS rules and lifecycle rules, as S3's documents have them.

use std::sync::Arc;

use http::StatusCode;
use skep_r2::{
    Allowed, Bucket, ClassTransition, Conditions, CorsRule, LifecycleRule, Moment, RulesError, StorageClass,
    Transition, When,
};
use skep_wire::{Response, empty, reply};

use crate::error::S3Error;
use crate::payload::Payload;
use crate::service::{Answer, Call, document};
use crate::xml::{Element, Xml};

/// The longest document: a thousand rules.
const MOST: usize = 1 << 20;
const DAY: u64 = 24 * 3600;

pub(crate) fn encryption() -> Response {
    let mut xml = Xml::of("ServerSideEncryptionConfiguration");
    xml.open("Rule");
    xml.open("ApplyServerSideEncryptionByDefault");
    xml.text("SSEAlgorithm", "AES256");
    xml.close("ApplyServerSideEncryptionByDefault");
    xml.text("BucketKeyEnabled", "true");
    xml.close("Rule");
    xml.close("ServerSideEncryptionConfiguration");
    document(xml)
}

pub(crate) fn versioning() -> Response {
    let mut xml = Xml::of("VersioningConfiguration");
    xml.close("VersioningConfiguration");
    document(xml)
}

fn absent(code: &'static str, text: &str) -> S3Error {
    S3Error::new(StatusCode::NOT_FOUND, code, text)
}

fn refused(error: RulesError) -> S3Error {
    match error {
        RulesError::Unfit(why) => S3Error::invalid_argument(why.to_string()),
        RulesError::Store(error) => error.into(),
    }
}

pub(crate) fn cors(bucket: &Bucket) -> Answer {
    let rules = bucket.rules();
    if rules.cors.is_empty() {
        return Err(absent("NoSuchCORSConfiguration", "The CORS configuration does not exist."));
    }
    let mut xml = Xml::of("CORSConfiguration");
    for rule in &rules.cors {
        xml.open("CORSRule");
        xml.maybe("ID", rule.id.as_deref());
        rule.allowed.origins.iter().for_each(|origin| xml.text("AllowedOrigin", origin));
        rule.allowed.methods.iter().for_each(|method| xml.text("AllowedMethod", method));
        rule.allowed.headers.iter().flatten().for_each(|name| xml.text("AllowedHeader", name));
        rule.expose_headers.iter().flatten().for_each(|name| xml.text("ExposeHeader", name));
        xml.maybe("MaxAgeSeconds", rule.max_age_seconds.map(|age| age.to_string()).as_deref());
        xml.close("CORSRule");
    }
    xml.close("CORSConfiguration");
    Ok(document(xml))
}

pub(crate) async fn put_cors(call: &Call<'_>, bucket: &Bucket, payload: Payload) -> Answer {
    let read = |root: &Element| cors_rules(root).ok_or_else(S3Error::malformed_xml);
    let rules = payload.root(call.account, MOST, "CORSConfiguration", read).await?;
    bucket.set_cors(rules).await.map_err(refused)?;
    Ok(reply(StatusCode::OK, empty()))
}

pub(crate) async fn delete_cors(bucket: &Bucket) -> Answer {
    bucket.set_cors(Vec::new()).await.map_err(refused)?;
    Ok(reply(StatusCode::NO_CONTENT, empty()))
}

fn cors_rules(root: &Element) -> Option<Vec<CorsRule>> {
    let rules = root.all("CORSRule").map(|rule| {
        let texts = |name| rule.all(name).map(|one| one.text.trim().to_owned()).collect::<Vec<_>>();
        let some = |texts: Vec<String>| Some(texts).filter(|texts| !texts.is_empty());
        let age = rule.value("MaxAgeSeconds").map(|text| text.trim().parse()).transpose().ok()?;
        let (origins, methods) = (some(texts("AllowedOrigin"))?, some(texts("AllowedMethod"))?);
        Some(CorsRule {
            id: rule.value("ID").map(str::to_owned),
            allowed: Allowed { methods, origins, headers: some(texts("AllowedHeader")) },
            expose_headers: some(texts("ExposeHeader")),
            max_age_seconds: age,
        })
    });
    rules.collect::<Option<Vec<_>>>().filter(|rules| !rules.is_empty())
}

pub(crate) fn lifecycle(bucket: &Bucket) -> Answer {
    let rules = bucket.rules();
    if rules.lifecycle.is_empty() {
        let text = "The lifecycle configuration does not exist.";
        return Err(absent("NoSuchLifecycleConfiguration", text));
    }
    let mut xml = Xml::of("LifecycleConfiguration");
    rules.lifecycle.iter().for_each(|rule| write(&mut xml, rule));
    xml.close("LifecycleConfiguration");
    Ok(document(xml))
}

fn write(xml: &mut Xml, rule: &LifecycleRule) {
    xml.open("Rule");
    xml.text("ID", &rule.id);
    xml.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    xml.open("Filter");
    xml.text("Prefix", rule.conditions.prefix.as_deref().unwrap_or_default());
    xml.close("Filter");
    if let Some(Transition { condition }) = &rule.delete_objects_transition {
        xml.open("Expiration");
        when(xml, condition);
        xml.close("Expiration");
    }
    for transition in rule.storage_class_transitions.iter().flatten() {
        xml.open("Transition");
        when(xml, &transition.condition);
        xml.text("StorageClass", crate::meta::class_name(transition.storage_class));
        xml.close("Transition");
    }
    if let Some(Transition { condition: When::Age { max_age } }) = &rule.abort_multipart_uploads_transition {
        xml.open("AbortIncompleteMultipartUpload");
        xml.text("DaysAfterInitiation", &max_age.div_ceil(DAY).to_string());
        xml.close("AbortIncompleteMultipartUpload");
    }
    xml.close("Rule");
}

fn when(xml: &mut Xml, when: &When) {
    match when {
        // S3 has days, and nothing less.
        When::Age { max_age } => xml.text("Days", &max_age.div_ceil(DAY).to_string()),
        When::Date { date } => xml.text("Date", &crate::meta::time(date.ms())),
    }
}

/// Whoever sets rules does not wait for what they do.
pub(crate) async fn put_lifecycle(call: &Call<'_>, bucket: &Arc<Bucket>, payload: Payload) -> Answer {
    let read = |root: &Element| lifecycle_rules(root).ok_or_else(S3Error::malformed_xml);
    let rules = payload.root(call.account, MOST, "LifecycleConfiguration", read).await?;
    bucket.set_lifecycle(rules).await.map_err(refused)?;
    bucket.sweep_soon();
    Ok(reply(StatusCode::OK, empty()))
}

pub(crate) async fn delete_lifecycle(bucket: &Bucket) -> Answer {
    bucket.set_lifecycle(Vec::new()).await.map_err(refused)?;
    Ok(reply(StatusCode::NO_CONTENT, empty()))
}

fn lifecycle_rules(root: &Element) -> Option<Vec<LifecycleRule>> {
    let rules: Option<Vec<_>> =
        root.all("Rule").enumerate().map(|(n, rule)| lifecycle_rule(n, rule)).collect();
    rules.filter(|rules| !rules.is_empty())
}

fn lifecycle_rule(n: usize, rule: &Element) -> Option<LifecycleRule> {
    let enabled = match rule.value("Status")?.trim() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return None,
    };
    let filter = rule.child("Filter");
    // Sizes and tags choose no objects here, and would be left out without a word.
    let known = |filter: &Element| filter.children.iter().all(|child| child.name == "Prefix");
    if !filter.is_none_or(known) {
        return None;
    }
    let prefix = filter.and_then(|filter| filter.value("Prefix")).or_else(|| rule.value("Prefix"));
    let at = |element: &Element| -> Option<When> {
        match (element.value("Days"), element.value("Date")) {
            (Some(days), None) => {
                let days: u64 = days.trim().parse().ok().filter(|days| *days > 0)?;
                Some(When::Age { max_age: days.checked_mul(DAY)? })
            }
            (None, Some(date)) => {
                let at = humantime::parse_rfc3339_weak(date.trim()).ok()?;
                let ms = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
                Some(When::Date { date: Moment::at_ms(u64::try_from(ms).ok()?) })
            }
            _ => None,
        }
    };
    let expires = rule.child("Expiration").map(|one| at(one).map(|condition| Transition { condition }));
    let aborts = rule.child("AbortIncompleteMultipartUpload").map(|one| {
        let days: u64 = one.value("DaysAfterInitiation")?.trim().parse().ok()?;
        Some(Transition { condition: When::Age { max_age: days.checked_mul(DAY)? } })
    });
    let changes: Option<Vec<ClassTransition>> = rule
        .all("Transition")
        .map(|one| {
            let class = one.value("StorageClass")?.trim();
            let infrequent = class == "STANDARD_IA";
            infrequent.then_some(())?;
            Some(ClassTransition { condition: at(one)?, storage_class: StorageClass::InfrequentAccess })
        })
        .collect();
    // What is there and cannot be read is not left out.
    let whole = |one: Option<Option<Transition>>| match one {
        None => Some(None),
        Some(None) => None,
        Some(some) => Some(some),
    };
    Some(LifecycleRule {
        id: rule.value("ID").map_or_else(|| format!("rule-{}", n + 1), str::to_owned),
        enabled,
        conditions: Conditions { prefix: prefix.map(str::to_owned).filter(|prefix| !prefix.is_empty()) },
        abort_multipart_uploads_transition: whole(aborts)?,
        delete_objects_transition: whole(expires)?,
        storage_class_transitions: changes
            .map(|changes| Some(changes).filter(|changes| !changes.is_empty()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let text = b"<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>\
            <Expiration><Days>90</Days></Expiration><Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition>\
            <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
            <Rule><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule></LifecycleConfiguration>";
        let rules = lifecycle_rules(&Element::read(text).unwrap()).unwrap();
        assert_eq!((rules.len(), rules[0].id.as_str(), rules[1].id.as_str()), (2, "a", "rule-2"));
        let mut xml = Xml::of("LifecycleConfiguration");
        rules.iter().for_each(|rule| write(&mut xml, rule));
        xml.close("LifecycleConfiguration");
        assert_eq!(lifecycle_rules(&Element::read(xml.finish().as_bytes()).unwrap()), Some(rules));
        for wrong in [
            "<Status>On</Status>",
            "<Status>Enabled</Status><Filter><Tag><Key>a</Key></Tag></Filter>",
            "<Status>Enabled</Status><Expiration><Days>-1</Days></Expiration>",
            "<Status>Enabled</Status><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>",
        ] {
            let text = format!("<LifecycleConfiguration><Rule>{wrong}</Rule></LifecycleConfiguration>");
            assert_eq!(lifecycle_rules(&Element::read(text.as_bytes()).unwrap()), None, "{wrong}");
        }
    }

    #[test]
    fn cors_rules_are_read() {
        let text = b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
            <AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";
        let rules = cors_rules(&Element::read(text).unwrap()).unwrap();
        assert_eq!(rules[0].allowed.methods, ["PUT", "GET"]);
        assert_eq!((rules[0].max_age_seconds, &rules[0].allowed.headers), (Some(60), &None));
        assert_eq!(
            cors_rules(&Element::read(b"<CORSConfiguration><CORSRule/></CORSConfiguration>").unwrap()),
            None
        );
    }
}
