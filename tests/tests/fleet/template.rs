//! The page: delete the control plane, name the backup in the template, sync, look.
