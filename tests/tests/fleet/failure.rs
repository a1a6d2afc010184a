//! What fails before the switch changes nothing; what fails after it is put back.
