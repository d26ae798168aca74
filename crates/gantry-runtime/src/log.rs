#[derive(Debug)]
pub struct JsonLog {}
impl JsonLog {
    pub(crate) fn open(
        _dir: std::os::fd::OwnedFd,
        _plan: &crate::plan::LogPlan,
    ) -> std::io::Result<Self> {
        Ok(Self {})
    }
    pub fn write(&mut self, _kind: u8, _bytes: &[u8], _now: std::time::SystemTime) {}
    pub fn close(self) {}
}
