//! The machine's own name, for people.

/// As the kernel has it; where it cannot be read, "this machine".
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "this machine".to_owned(),
        name => name.chars().filter(|c| !c.is_control()).collect(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_has_a_name_in_one_line() {
        let name = super::name();
        assert!(!name.is_empty() && name.lines().count() == 1, "{name:?}");
    }
}
