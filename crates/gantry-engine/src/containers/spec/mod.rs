pub struct SpecInput {}
pub fn build(_: &SpecInput) -> crate::Result<oci_spec::runtime::Spec> {
    todo!()
}
pub(crate) fn check_security_options(_: &gantry_api::container::HostConfig) -> crate::Result<()> {
    Ok(())
}
impl super::Containers {
    pub(super) fn spec_input(
        &self,
        _: &super::record::Record,
        _: std::os::fd::BorrowedFd<'_>,
        _: &super::etc::EtcFiles,
        _: bool,
    ) -> crate::Result<SpecInput> {
        todo!()
    }
}
