//! Compiles the protobuf files with protox, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["helenus/v1/client.proto", "helenus/v1/internode.proto"];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let fds = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        // Values stay `Bytes` from the socket to the memtable; maps are ordered, because order shows.
        .bytes(".")
        .btree_map(".")
        // Passwords are in no log.
        .skip_debug([".helenus.v1.CreateRoleRequest", ".helenus.v1.AlterRoleRequest"])
        .compile_fds(fds)?;
    Ok(())
}
