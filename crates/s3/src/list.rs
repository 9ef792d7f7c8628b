//! Lists: of keys, of uploads that have not ended, of their parts.

use skep_r2::{Bucket, ListOptions, MAX_LIST};

use crate::buckets::owner;
use crate::error::S3Error;
use crate::meta::{class_name, time};
use crate::query::{Query, encoded};
use crate::service::{Answer, document};
use crate::xml::Xml;

/// What a list is asked for by; its own, as another thread makes it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub query: Query,
    /// The account's id.
    pub account: String,
    /// The bucket's name.
    pub name: String,
    /// The key, where the list is one of parts.
    pub key: String,
}

/// How keys are written.
struct Names {
    url: bool,
}

impl Names {
    fn of(asked: &Asked) -> Result<Self, S3Error> {
        match asked.query.get("encoding-type") {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(other) => Err(S3Error::not_implemented(&format!("Unrecognized encoding-type \"{other}\""))),
        }
    }

    /// A key. A slash stays what it is, as in S3.
    fn write(&self, name: &str) -> String {
        match self.url {
            true => name.split('/').map(encoded).collect::<Vec<_>>().join("/"),
            false => name.to_owned(),
        }
    }

    fn say(&self, xml: &mut Xml) {
        xml.maybe("EncodingType", self.url.then_some("url"));
    }
}

/// How many entries a page is to have: as asked, which is repeated, and as it is.
fn most(asked: &Asked, name: &str) -> Result<(u64, usize), S3Error> {
    let Some(text) = asked.query.get(name) else { return Ok((MAX_LIST.into(), MAX_LIST as usize)) };
    let wanted = text.trim().parse::<f64>().ok().filter(|wanted| wanted.is_finite() && *wanted >= 0.0);
    // Of a fraction the whole part counts.
    let wanted = wanted.ok_or_else(S3Error::invalid_max_keys)? as u64;
    Ok((wanted, wanted.min(MAX_LIST.into()) as usize))
}

pub(crate) fn objects(asked: &Asked, bucket: &Bucket, v2: bool) -> Answer {
    let names = Names::of(asked)?;
    let (wanted, limit) = most(asked, "max-keys")?;
    let given = |name: &str| asked.query.get(name);
    let (prefix, delimiter) =
        (given("prefix").unwrap_or_default(), given("delimiter").filter(|d| !d.is_empty()));
    let after = given(if v2 { "start-after" } else { "marker" });
    let cursor = given("continuation-token").filter(|_| v2);
    let options = ListOptions {
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(str::to_owned),
        start_after: after.map(|after| past(after, prefix, delimiter)),
        cursor: cursor.map(str::to_owned),
        // Whether there are any is said also of a page that has none.
        limit: Some(limit.max(1) as i64),
        ..ListOptions::default()
    };
    let mut page = bucket.list(&options)?;
    if limit == 0 {
        page.truncated = !page.objects.is_empty() || !page.delimited_prefixes.is_empty();
        page.cursor = None;
        page.objects.clear();
        page.delimited_prefixes.clear();
    }
    let mut xml = Xml::of("ListBucketResult");
    xml.text("Name", &asked.name);
    for object in &page.objects {
        xml.open("Contents");
        xml.text("Key", &names.write(&object.name));
        xml.text("Size", &object.size.to_string());
        xml.text("LastModified", &time(object.uploaded));
        xml.text("ETag", &format!("\"{}\"", object.etag));
        xml.text("StorageClass", class_name(object.storage_class));
        if !v2 || given("fetch-owner") == Some("true") {
            owner(&mut xml, "Owner", &asked.account);
        }
        xml.close("Contents");
    }
    xml.text("IsTruncated", if page.truncated { "true" } else { "false" });
    for group in &page.delimited_prefixes {
        xml.open("CommonPrefixes");
        xml.text("Prefix", &names.write(group));
        xml.close("CommonPrefixes");
    }
    xml.text("Prefix", &names.write(prefix));
    xml.maybe("Delimiter", delimiter.map(|d| names.write(d)).as_deref());
    if v2 {
        xml.maybe("StartAfter", after.map(|after| names.write(after)).as_deref());
        xml.maybe("ContinuationToken", cursor);
        xml.maybe("NextContinuationToken", page.cursor.as_deref().filter(|_| page.truncated));
    } else {
        let last = page.objects.last().map(|object| &object.name).max(page.delimited_prefixes.last());
        xml.text("Marker", &names.write(after.unwrap_or_default()));
        xml.maybe("NextMarker", last.filter(|_| page.truncated).map(|last| names.write(last)).as_deref());
    }
    xml.text("MaxKeys", &wanted.to_string());
    if v2 {
        xml.text("KeyCount", &(page.objects.len() + page.delimited_prefixes.len()).to_string());
    }
    names.say(&mut xml);
    xml.close("ListBucketResult");
    Ok(document(xml))
}

/// The last key that is not to be listed. Where a list ended with a group of keys, all of the group are behind it. Pure.
fn past(after: &str, prefix: &str, delimiter: Option<&str>) -> String {
    let group = delimiter.and_then(|delimiter| {
        let rest = after.strip_prefix(prefix)?;
        let at = rest.find(delimiter)?;
        Some(at + delimiter.len() == rest.len())
    });
    match group {
        // No character of a key comes after this one.
        Some(true) => format!("{after}{}", char::MAX),
        _ => after.to_owned(),
    }
}

pub(crate) fn uploads(asked: &Asked, bucket: &Bucket) -> Answer {
    let names = Names::of(asked)?;
    let (wanted, limit) = most(asked, "max-uploads")?;
    let given = |name: &str| asked.query.get(name);
    if given("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(S3Error::not_implemented("ListMultipartUploads search parameter delimiter"));
    }
    let prefix = given("prefix").unwrap_or_default();
    let (key, id) = (given("key-marker").unwrap_or_default(), given("upload-id-marker"));
    // Without an id, all uploads of the key are behind it: ids are hexadecimal digits.
    let after = (!key.is_empty()).then(|| (key, id.unwrap_or("~")));
    let mut found = bucket.uploads(prefix, after, limit + 1)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut xml = Xml::of("ListMultipartUploadsResult");
    xml.text("Bucket", &asked.name);
    xml.text("KeyMarker", &names.write(key));
    xml.text("UploadIdMarker", id.unwrap_or_default());
    if let Some(last) = found.last().filter(|_| more) {
        xml.text("NextKeyMarker", &names.write(&last.key));
        xml.text("NextUploadIdMarker", &last.id);
    }
    xml.text("Prefix", &names.write(prefix));
    xml.text("MaxUploads", &wanted.to_string());
    xml.text("IsTruncated", if more { "true" } else { "false" });
    for upload in &found {
        xml.open("Upload");
        xml.text("Key", &names.write(&upload.key));
        xml.text("UploadId", &upload.id);
        owner(&mut xml, "Initiator", &asked.account);
        owner(&mut xml, "Owner", &asked.account);
        xml.text("StorageClass", class_name(upload.storage_class));
        xml.text("Initiated", &time(upload.started));
        xml.close("Upload");
    }
    names.say(&mut xml);
    xml.close("ListMultipartUploadsResult");
    Ok(document(xml))
}

pub(crate) fn parts(asked: &Asked, bucket: &Bucket) -> Answer {
    let names = Names::of(asked)?;
    let (wanted, limit) = most(asked, "max-parts")?;
    let marker = asked.query.get("part-number-marker").map(|text| text.trim().parse::<u32>());
    let marker = marker.transpose().map_err(|_| {
        S3Error::invalid_argument("part-number-marker must be an integer between 0 and 10000, inclusive.")
    })?;
    let found = bucket.upload(&asked.key, asked.query.get("uploadId").unwrap_or_default())?;
    let (upload, mut parts) = found.ok_or_else(S3Error::no_such_upload)?;
    parts.retain(|part| part.number > marker.unwrap_or(0));
    let more = parts.len() > limit;
    parts.truncate(limit);
    let mut xml = Xml::of("ListPartsResult");
    xml.text("Bucket", &asked.name);
    xml.text("Key", &names.write(&asked.key));
    xml.text("UploadId", &upload.id);
    owner(&mut xml, "Initiator", &asked.account);
    owner(&mut xml, "Owner", &asked.account);
    xml.text("StorageClass", class_name(upload.storage_class));
    xml.text("PartNumberMarker", &marker.unwrap_or(0).to_string());
    if let Some(last) = parts.last().filter(|_| more) {
        xml.text("NextPartNumberMarker", &last.number.to_string());
    }
    xml.text("MaxParts", &wanted.to_string());
    xml.text("IsTruncated", if more { "true" } else { "false" });
    for part in &parts {
        xml.open("Part");
        xml.text("PartNumber", &part.number.to_string());
        // When a part came is not kept; its upload was there by then.
        xml.text("LastModified", &time(upload.started));
        xml.text("ETag", &format!("\"{}\"", part.etag));
        xml.text("Size", &part.size.to_string());
        xml.close("Part");
    }
    names.say(&mut xml);
    xml.close("ListPartsResult");
    Ok(document(xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_behind_its_name() {
        let end = format!("a/{}", char::MAX);
        assert_eq!(past("a/", "", Some("/")), end);
        assert_eq!(past("a/b", "", Some("/")), "a/b");
        assert_eq!(past("a/", "a/", Some("/")), "a/");
        assert_eq!(past("a/", "", None), "a/");
    }
}
