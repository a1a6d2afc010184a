//! The machine's host name, for people.

/// From the kernel; "this machine" if it cannot be read.
pub fn name() -> String {
    known().unwrap_or_else(|| "this machine".to_owned())
}

/// From the kernel, without control characters; `None` if it cannot be read or is not set.
pub fn known() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty() && name != "(none)").then_some(name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_has_a_name_in_one_line() {
        let name = super::name();
        assert!(!name.is_empty() && name.lines().count() == 1, "{name:?}");
    }
}
