//! How large a request a node reads. It says so in the headers of a stream's answer, and again in the status that ends a
//! stream on which something larger came: that status alone could not say which of the requests it is about.

use crate::v1;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};

/// The metadata key: bytes of one encoded request, in decimal.
const KEY: &str = "helenus-request-bytes-max";

/// Says it.
pub fn announce(metadata: &mut MetadataMap, request_bytes_max: usize) {
    metadata.insert(KEY, MetadataValue::from(request_bytes_max));
}

/// What was said; absent if nothing was, or nothing that is a number.
pub fn announced(metadata: &MetadataMap) -> Option<usize> {
    metadata.get(KEY)?.to_str().ok()?.parse().ok()
}

/// How large a request is on the wire.
pub fn request_bytes(request: &v1::KvRequest) -> usize {
    request.encoded_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_announced_is_read_and_nonsense_is_not() {
        let mut metadata = MetadataMap::new();
        assert_eq!(announced(&metadata), None);
        announce(&mut metadata, 42);
        assert_eq!(announced(&metadata), Some(42));
        metadata.insert(KEY, MetadataValue::from_static("many"));
        assert_eq!(announced(&metadata), None);
    }
}
