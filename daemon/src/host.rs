//! The machine's own name, for people.

/// As the kernel has it; where it cannot be read, "this machine".
pub fn name() -> String {
    known().unwrap_or_else(|| "this machine".to_owned())
}

/// As the kernel has it; `None` where it cannot be read or has none.
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
