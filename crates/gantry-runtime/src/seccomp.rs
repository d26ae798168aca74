pub fn compile(_: &oci_spec::runtime::LinuxSeccomp) -> std::io::Result<Vec<u8>> {
    Ok(vec![])
}
pub fn load(_: &[u8]) -> std::io::Result<()> {
    Ok(())
}
