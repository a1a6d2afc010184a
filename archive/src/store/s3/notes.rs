//! What a probe notes of a provider with which backups are possible all the same.

pub(super) const CANNOT_LIST_UPLOADS: &str = "this provider cannot list unfinished uploads: what an attempt that died \
     has uploaded stays until a lifecycle rule of the bucket removes it";

pub(super) const IGNORES_CREATE_ONLY: &str = "this provider ignores If-None-Match: Backstay looks for an object before \
     it completes one instead, which leaves a short moment in which two could meet";

pub(super) const REFUSES_DELETE: &str = "this bucket refuses deletes (object lock?): backups can be made, and the \
     probe's own object of 8 MiB stays";

pub(super) const LOCKS_BY_DEFAULT: &str = "this bucket locks what is put there: deleting was not tried, and the probe's \
     own object of 8 MiB stays until its retention ends; what failed backups leave behind stays as long";

pub(super) const DROPS_OWNER: &str = "this provider drops the metadata of objects that are uploaded in parts: where the \
     answer to a completed upload is lost, Backstay cannot tell that it succeeded";

pub(super) const HEAD_WITHOUT_LENGTH: &str = "this provider, or a proxy before it, answers HEAD without Content-Length: \
     Backstay asks for the length of an object by reading its first byte";

pub(super) const ABSENT_IS_DENIED: &str = "this provider answers 403 for what is not there (may these credentials list \
     the bucket?): where listing is refused as well, Backstay takes 403 for \"not there\"";

pub(super) const NOT_LISTED: &str = "this provider did not list an object that was just put there: a new backup may be \
     missing in listings for a while";
