//! A probe's notes on what a provider does not support, although backups are possible.

pub(super) const CANNOT_LIST_UPLOADS: &str = "this provider cannot list unfinished uploads: parts uploaded by an \
    attempt that died stay until a lifecycle rule of the bucket removes them";

pub(super) const IGNORES_CREATE_ONLY: &str = "this provider ignores If-None-Match: Backstay instead checks that an \
    object does not exist before completing it, which leaves a short window for a race";

pub(super) const REFUSES_DELETE: &str = "this bucket refuses deletes (object lock?): backups can be made, but the test \
    object of 8 MiB stays";

pub(super) const LOCKS_BY_DEFAULT: &str = "this bucket locks new objects: deleting was not tested, and the test object \
    of 8 MiB stays until its retention ends; the leftovers of failed backups stay as long";

pub(super) const DROPS_OWNER: &str = "this provider drops the metadata of objects that are uploaded in parts: if the \
    answer to a completed upload is lost, Backstay cannot tell that it succeeded";

pub(super) const HEAD_WITHOUT_LENGTH: &str = "this provider, or a proxy in front of it, answers HEAD without \
    Content-Length: Backstay gets the size of an object by reading its first byte";

pub(super) const ABSENT_IS_DENIED: &str = "this provider answers 403 for objects that do not exist (are these \
    credentials allowed to list the bucket?): if listing is refused as well, Backstay treats 403 as \"does not exist\"";

pub(super) const NOT_LISTED: &str = "this provider did not list an object that was just uploaded: a new backup may be \
    missing from lists for a while";
