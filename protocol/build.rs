//! Compiles `proto/` to Rust without `protoc`: protox parses, prost-build generates.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["backstay/v1/bus.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    // By far the largest of the answers.
    config.bytes(["."]).boxed(".backstay.v1.RestoreReply.answer.state");
    config.compile_fds(files)?;
    Ok(())
}
