//! A small engine for the tests: a spawner, a busybox root, a spec.

use gantry_runtime::cgroup::Cgroup;
use gantry_runtime::log::{LogFile, LogFormat, LogRequest};
use gantry_runtime::shim_client::ExitRecord;
use gantry_runtime::spawn::{
    Attached, Spawner, SpawnerOptions, StartError, StartRequest, Started, Stdio, Streams,
};
use oci_spec::runtime::{Spec, SpecBuilder};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The one spawner of the test process.
pub(crate) fn spawner() -> &'static Spawner {
    static SPAWNER: OnceLock<Spawner> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let options = SpawnerOptions {
            program: std::env::current_exe().unwrap(),
            exec_root: "/run".into(),
        };
        Spawner::launch(options).expect("the spawner starts")
    })
}

/// One container's places; everything is removed and looked for at the end.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) spec: Spec,
    pub(crate) stdio: Stdio,
    pub(crate) log: bool,
    pub(crate) attached: Vec<Attached>,
}

impl Place {
    pub(crate) fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for sub in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        std::fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
            .expect("busybox-static is installed");
        for applet in [
            "sh", "cat", "echo", "true", "sleep", "stty", "test", "id", "ls", "grep", "head", "dd",
            "pwd", "mount", "ps", "kill", "tr",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let id = format!(
            "rt-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut spec = SpecBuilder::default().build().unwrap();
        let process = spec.process().clone().unwrap_or_default();
        let mut process = process;
        process.set_args(Some(args.iter().map(|a| (*a).to_owned()).collect()));
        process.set_env(Some(vec!["PATH=/bin".into()]));
        process.set_cwd("/".into());
        process.set_terminal(Some(false));
        spec.set_process(Some(process));
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_cgroups_path(Some(format!("/gantry-rt-test/{id}").into()));
        spec.set_linux(Some(linux));
        let mut root_spec = spec.root().clone().unwrap_or_default();
        root_spec.set_readonly(Some(false));
        spec.set_root(Some(root_spec));
        Self {
            dir,
            id,
            spec,
            stdio: Stdio::default(),
            log: true,
            attached: Vec::new(),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("c-json.log")
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup {
            path: format!("/gantry-rt-test/{}", self.id),
        }
    }

    /// Attaches before the start.
    pub(crate) fn attach(&mut self, streams: Streams) -> UnixStream {
        let (ours, socket) = UnixStream::pair().unwrap();
        self.attached.push(Attached { socket, streams });
        ours
    }

    pub(crate) fn start(&mut self) -> Result<Started, StartError> {
        self.start_by(spawner())
    }

    pub(crate) fn start_by(&mut self, spawner: &Spawner) -> Result<Started, StartError> {
        let rootfs = clone_of(&self.root());
        spawner.start(StartRequest {
            id: &self.id,
            spec: &self.spec,
            rootfs,
            netns: None,
            run_dir: &self.run_dir(),
            log: LogRequest {
                file: self.log.then(|| LogFile {
                    path: self.log_path(),
                    format: LogFormat::Json,
                    max_size: None,
                    max_files: 1,
                    compress: false,
                    attrs: Vec::new(),
                }),
                remote: None,
            },
            stdio: self.stdio.clone(),
            attached: std::mem::take(&mut self.attached),
            trace: true,
        })
    }

    /// Starts and waits for the end.
    pub(crate) fn run(&mut self) -> Result<ExitRecord, StartError> {
        let started = self.start()?;
        Ok(started
            .watch
            .wait()
            .unwrap()
            .expect("the shim says how the container ended"))
    }

    /// Nothing of the container is in the kernel.
    pub(crate) fn assert_gone(&self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join("gantry-rt-test").join(&self.id);
            assert!(!group.exists(), "{} is left", group.display());
        }
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let root = std::fs::read_link(process.path().join("root")).unwrap_or_default();
            assert!(
                !root.starts_with(self.dir.path()),
                "process {:?} is left",
                process.file_name()
            );
        }
    }
}

/// Takes the tests' own parent group away; it stays when another run of the tests still has groups in it.
pub(crate) fn remove_cgroup_parent() {
    for hierarchy in gantry_runtime::cgroup::Hierarchies::get().iter() {
        let parent = Path::new(hierarchy.mount_point()).join("gantry-rt-test");
        let _ = std::fs::remove_dir(parent);
    }
}

fn clone_of(path: &Path) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags).unwrap()
}
