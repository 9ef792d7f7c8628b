//! Which operation a request is. Pure.
//! <https://developers.cloudflare.com/r2/api/s3/api/>
//!
//! A parameter that names an operation which R2 does not have is refused by that operation's name; most others that mean nothing are
//! passed over, as R2 does.

use http::{HeaderMap, Method, StatusCode};

use crate::error::S3Error;
use crate::query::Query;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBuckets,
    CreateBucket,
    DeleteBucket,
    HeadBucket,
    GetBucketLocation,
    GetBucketEncryption,
    GetBucketVersioning,
    /// What no bucket has: the name of the error, and its text.
    GetNothing(&'static str, &'static str),
    GetBucketCors,
    PutBucketCors,
    DeleteBucketCors,
    GetBucketLifecycle,
    PutBucketLifecycle,
    DeleteBucketLifecycle,
    ListMultipartUploads,
    ListObjects,
    ListObjectsV2,
    DeleteObjects,
    /// A POST that is nothing: R2 answers it with nothing.
    Nothing,
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
}

/// What a key has to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
    /// Buckets themselves are made, removed or set.
    Manage,
}

impl Operation {
    pub fn need(self) -> Need {
        match self {
            Self::CreateBucket
            | Self::DeleteBucket
            | Self::PutBucketCors
            | Self::DeleteBucketCors
            | Self::PutBucketLifecycle
            | Self::DeleteBucketLifecycle => Need::Manage,
            Self::DeleteObjects
            | Self::PutObject
            | Self::CopyObject
            | Self::DeleteObject
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::UploadPartCopy
            | Self::CompleteMultipartUpload
            | Self::AbortMultipartUpload => Need::Write,
            _ => Need::Read,
        }
    }

    /// What a request to all buckets is.
    pub fn on_account(method: &Method) -> Result<Self, S3Error> {
        match *method {
            Method::GET | Method::HEAD => Ok(Self::ListBuckets),
            _ => Err(S3Error::no_route()),
        }
    }

    /// What a request to a bucket is.
    pub fn on_bucket(method: &Method, query: &Query) -> Result<Self, S3Error> {
        match *method {
            Method::HEAD => Ok(Self::HeadBucket),
            Method::GET => get_bucket(query),
            Method::POST if query.has("delete") => Ok(Self::DeleteObjects),
            Method::POST => Ok(Self::Nothing),
            Method::PUT => {
                let own = [("cors", Self::PutBucketCors), ("lifecycle", Self::PutBucketLifecycle)];
                change(query, "PUT", &own, PUT_ABSENT, Self::CreateBucket)
            }
            Method::DELETE => {
                let own = [("cors", Self::DeleteBucketCors), ("lifecycle", Self::DeleteBucketLifecycle)];
                change(query, "DELETE", &own, DELETE_ABSENT, Self::DeleteBucket)
            }
            _ => Err(S3Error::no_route()),
        }
    }

    /// What a request to an object is.
    pub fn on_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Self, S3Error> {
        let copies = headers.contains_key("x-amz-copy-source");
        let number = query.get("partNumber");
        if query.has("uploadId") {
            // Others match no route of R2's.
            let fits = |text: &str| {
                let digits = text.trim_start_matches(' ');
                digits.strip_prefix('-').unwrap_or(digits).bytes().all(|b| b.is_ascii_digit())
            };
            if number.is_some_and(|text| !fits(text)) {
                return Err(S3Error::no_route());
            }
            match *method {
                Method::GET => return Ok(Self::ListParts),
                Method::PUT if number.is_some() && copies => return Ok(Self::UploadPartCopy),
                Method::PUT if number.is_some() => return Ok(Self::UploadPart),
                Method::POST => return Ok(Self::CompleteMultipartUpload),
                Method::DELETE => return Ok(Self::AbortMultipartUpload),
                _ => {}
            }
        }
        if query.has("uploads") {
            match *method {
                Method::POST => return Ok(Self::CreateMultipartUpload),
                Method::GET => return Ok(Self::ListMultipartUploads),
                _ => {}
            }
        }
        let absent = |list: &[(&str, &'static str)]| {
            let found = query.names().find_map(|name| list.iter().find(|(other, _)| *other == name));
            found.map_or(Ok(()), |(_, operation)| Err(S3Error::not_implemented(operation)))
        };
        match *method {
            Method::HEAD => Ok(Self::HeadObject),
            Method::GET => absent(GET_OBJECT_ABSENT).map(|()| Self::GetObject),
            Method::PUT => {
                absent(PUT_OBJECT_ABSENT)?;
                Ok(if copies { Self::CopyObject } else { Self::PutObject })
            }
            Method::POST => Ok(Self::PutObject),
            Method::DELETE => Ok(Self::DeleteObject),
            _ => Err(S3Error::no_route()),
        }
    }
}

const GET_OBJECT_ABSENT: &[(&str, &str)] = &[
    ("tagging", "GetObjectTagging"),
    ("acl", "GetObjectAcl"),
    ("attributes", "GetObjectAttributes"),
    ("torrent", "GetObjectTorrent"),
    ("retention", "GetObjectRetention"),
    ("legal-hold", "GetObjectLegalHold"),
];
const PUT_OBJECT_ABSENT: &[(&str, &str)] = &[
    ("tagging", "PutObjectTagging"),
    ("acl", "PutObjectAcl"),
    ("retention", "PutObjectRetention"),
    ("legal-hold", "PutObjectLegalHold"),
];
const GET_ABSENT: &[(&str, &str)] = &[
    ("versions", "ListObjectVersions"),
    ("policy", "GetBucketPolicy"),
    ("website", "GetBucketWebsite"),
    ("notification", "GetBucketNotificationConfiguration"),
    ("requestPayment", "GetBucketRequestPayment"),
    ("logging", "GetBucketLogging"),
    ("accelerate", "GetBucketAccelerateConfiguration"),
    ("publicAccessBlock", "GetPublicAccessBlock"),
    ("ownershipControls", "GetBucketOwnershipControls"),
    ("intelligent-tiering", "GetBucketIntelligentTieringConfiguration"),
    ("inventory", "GetBucketInventoryConfiguration"),
    ("metrics", "GetBucketMetricsConfiguration"),
    ("analytics", "GetBucketAnalyticsConfiguration"),
    // As R2 has it.
    ("policyStatus", "GetGetBucketPolicyStatus"),
    ("acl", "GetBucketAcl"),
];
const PUT_ABSENT: &[(&str, &str)] = &[
    ("accelerate", "PutBucketAccelerateConfiguration"),
    ("acl", "PutBucketAcl"),
    ("analytics", "PutBucketAnalyticsConfiguration"),
    ("intelligent-tiering", "PutBucketIntelligentTieringConfiguration"),
    ("inventory", "PutBucketInventoryConfiguration"),
    ("logging", "PutBucketLogging"),
    ("metrics", "PutBucketMetricsConfiguration"),
    ("notification", "PutBucketNotificationConfiguration"),
    ("object-lock", "PutObjectLockConfiguration"),
    ("ownershipControls", "PutBucketOwnershipControls"),
    ("policy", "PutBucketPolicy"),
    ("publicAccessBlock", "PutPublicAccessBlock"),
    ("replication", "PutBucketReplication"),
    ("requestPayment", "PutBucketRequestPayment"),
    ("tagging", "PutBucketTagging"),
    ("website", "PutBucketWebsite"),
    ("encryption", "PutBucketEncryption"),
    ("versioning", "PutBucketVersioning"),
];
const DELETE_ABSENT: &[(&str, &str)] = &[
    ("analytics", "DeleteBucketAnalyticsConfiguration"),
    ("intelligent-tiering", "DeleteBucketIntelligentTieringConfiguration"),
    ("inventory", "DeleteBucketInventoryConfiguration"),
    ("metrics", "DeleteBucketMetricsConfiguration"),
    ("ownershipControls", "DeleteBucketOwnershipControls"),
    ("policy", "DeleteBucketPolicy"),
    ("replication", "DeleteBucketReplication"),
    ("tagging", "DeleteBucketTagging"),
    ("website", "DeleteBucketWebsite"),
    ("encryption", "DeleteBucketEncryption"),
];
const GET_PRESENT: &[(&str, Operation)] = &[
    ("encryption", Operation::GetBucketEncryption),
    ("versioning", Operation::GetBucketVersioning),
    ("tagging", Operation::GetNothing("NoSuchTagSet", "The TagSet does not exist.")),
    (
        "object-lock",
        Operation::GetNothing(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket.",
        ),
    ),
    (
        "replication",
        Operation::GetNothing(
            "ReplicationConfigurationNotFoundError",
            "The replication configuration was not found.",
        ),
    ),
    ("cors", Operation::GetBucketCors),
    ("lifecycle", Operation::GetBucketLifecycle),
];
const LIST: &[&str] = &["prefix", "delimiter", "marker", "max-keys", "encoding-type"];
const LIST_V2: &[&str] = &[
    "list-type",
    "prefix",
    "delimiter",
    "continuation-token",
    "start-after",
    "max-keys",
    "encoding-type",
    "fetch-owner",
];

fn get_bucket(query: &Query) -> Result<Operation, S3Error> {
    if query.has("uploads") {
        return Ok(Operation::ListMultipartUploads);
    }
    if query.has("location") {
        return match query.names().find(|name| *name != "location") {
            None => Ok(Operation::GetBucketLocation),
            Some(other) => {
                let text = format!("Search param {other} is unsupported for bucket location");
                Err(S3Error::invalid_argument(text))
            }
        };
    }
    for name in query.names() {
        if let Some((_, operation)) = GET_PRESENT.iter().find(|(other, _)| *other == name) {
            return Ok(*operation);
        }
        if let Some((_, operation)) = GET_ABSENT.iter().find(|(other, _)| *other == name) {
            return Err(S3Error::not_implemented(operation));
        }
    }
    let (operation, version, known) = match query.get("list-type") {
        None => (Operation::ListObjects, 1, LIST),
        Some("2") => (Operation::ListObjectsV2, 2, LIST_V2),
        Some(other) => return Err(S3Error::not_implemented(&format!("ListObjectsV{other}"))),
    };
    if version == 1 && query.has("continuation-token") {
        return Err(S3Error::invalid_argument("continuation-token not supported in ListObjects"));
    }
    match query.names().find(|name| !known.contains(name)) {
        None => Ok(operation),
        Some(other) => {
            Err(S3Error::not_implemented(&format!("ListObjectsV{version} search parameter {other}")))
        }
    }
}

fn change(
    query: &Query,
    method: &str,
    own: &[(&str, Operation)],
    absent: &[(&str, &'static str)],
    bare: Operation,
) -> Result<Operation, S3Error> {
    for name in query.names() {
        if let Some((_, operation)) = own.iter().find(|(other, _)| *other == name) {
            return Ok(*operation);
        }
        if let Some((_, operation)) = absent.iter().find(|(other, _)| *other == name) {
            return Err(S3Error::not_implemented(operation));
        }
    }
    let others: Vec<String> = query.names().map(|name| format!("\"{name}\"")).collect();
    match others.is_empty() {
        true => Ok(bare),
        false => Err(S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            format!("Unsupported search param(s) {} on a {method} bucket route", others.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_say_which_operation_it_is() {
        let bucket = |method: Method, text: &str| {
            Operation::on_bucket(&method, &query(text)).map_err(|error| error.message)
        };
        assert_eq!(bucket(Method::GET, "list-type=2&prefix=a&X-Amz-Date=1"), Ok(Operation::ListObjectsV2));
        assert_eq!(bucket(Method::GET, "marker=a"), Ok(Operation::ListObjects));
        assert_eq!(bucket(Method::GET, "list-type=3"), Err("ListObjectsV3 not implemented".into()));
        let other = "ListObjectsV1 search parameter other not implemented";
        assert_eq!(bucket(Method::GET, "other="), Err(other.into()));
        assert_eq!(bucket(Method::GET, "acl"), Err("GetBucketAcl not implemented".into()));
        assert_eq!(bucket(Method::PUT, "x-id=CreateBucket"), Ok(Operation::CreateBucket));
        assert_eq!(bucket(Method::PUT, "cors"), Ok(Operation::PutBucketCors));
        let unknown = "Unsupported search param(s) \"a\", \"b\" on a DELETE bucket route";
        assert_eq!(bucket(Method::DELETE, "a&b"), Err(unknown.into()));
        assert_eq!(bucket(Method::POST, "delete"), Ok(Operation::DeleteObjects));

        let mut headers = HeaderMap::new();
        let object = |headers: &HeaderMap, method: Method, text: &str| {
            Operation::on_object(&method, &query(text), headers).map_err(|error| error.code)
        };
        assert_eq!(object(&headers, Method::PUT, "x-id=PutObject"), Ok(Operation::PutObject));
        assert_eq!(object(&headers, Method::PUT, "uploadId=u&partNumber=1"), Ok(Operation::UploadPart));
        assert_eq!(object(&headers, Method::PUT, "uploadId=u&partNumber=1.0"), Err("RouteNotFound"));
        assert_eq!(object(&headers, Method::PUT, "uploadId=u"), Ok(Operation::PutObject));
        assert_eq!(object(&headers, Method::POST, "uploads"), Ok(Operation::CreateMultipartUpload));
        assert_eq!(object(&headers, Method::GET, "tagging"), Err("NotImplemented"));
        assert_eq!(object(&headers, Method::DELETE, "tagging"), Ok(Operation::DeleteObject));
        headers.insert("x-amz-copy-source", "/a/b".parse().unwrap());
        assert_eq!(object(&headers, Method::PUT, ""), Ok(Operation::CopyObject));
        assert_eq!(object(&headers, Method::PUT, "uploadId=u&partNumber=1"), Ok(Operation::UploadPartCopy));
    }
}
