//! The image without an engine: its root file system, made by the steps of the Dockerfile, and a process in it.
//!
//! The base image is stood in for by a folder with the programs of this machine that the steps and the health check run, and the
//! libraries that they and the node load.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    dockerfile::{Dockerfile, ROOT},
    node::ADMIN_KEY,
    patience::PATIENCE,
};

/// As Docker sets it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the steps and the health check run, all of it part of the base image.
const PROGRAMS: [&str; 7] = [
    "/usr/bin/sh",
    "/usr/bin/bash",
    "/usr/bin/install",
    "/usr/bin/touch",
    "/usr/sbin/groupadd",
    "/usr/sbin/useradd",
    "/usr/sbin/nologin",
];

const DEVICES: [&str; 3] = ["null", "zero", "urandom"];

/// An image as a folder.
pub(crate) struct Image {
    folder: TempDir,
    pub(crate) dockerfile: Dockerfile,
}

impl Image {
    /// # Panics
    /// Where this user may not change its root: the image is then not tested, and that is said.
    pub(crate) fn build() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test mounts file systems and changes its root and user: run ./test as root, or leave it out with -E 'not test(image)'"
        );
        let image = Self { folder: tempfile::tempdir().expect("a folder"), dockerfile: Dockerfile::read() };
        for (name, rest) in image.dockerfile.last_stage() {
            match &**name {
                "FROM" => image.base(rest),
                "RUN" => image.run(rest),
                "COPY" => image.copy(rest),
                // They say how a container runs.
                "ENV" | "USER" | "VOLUME" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD" => {}
                _ => panic!("the test does not know {name}"),
            }
        }
        image
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where a path of the image is on this machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn base(&self, name: &str) {
        assert_eq!(name, "debian:bookworm-slim", "the folder stands in for this image");
        for folder in
            ["", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "etc/default", "proc", "dev", "tmp"]
        {
            fs::create_dir_all(self.path(folder)).expect("a folder");
            fs::set_permissions(self.path(folder), fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), self.path(link)).expect("a link");
        }
        for device in DEVICES {
            fs::write(self.path("dev").join(device), "").expect("a place for a device");
        }
        fs::write(self.path("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n").expect("users");
        fs::write(self.path("etc/group"), "root:x:0:\n").expect("groups");
        for program in PROGRAMS {
            self.import(program, program);
            self.import_libraries(Path::new(program));
        }
        // Of the base image as well: a test of its own compares what the node loads with what is there.
        self.import_libraries(Path::new(env!("CARGO_BIN_EXE_penstock")));
    }

    fn import(&self, from: &str, to: &str) {
        let to = self.path(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{from}: {error}"));
    }

    fn import_libraries(&self, program: &Path) {
        for library in libraries(program) {
            if !self.path(&library).exists() {
                self.import(&library, &library);
            }
        }
    }

    fn run(&self, script: &str) {
        let run = std::process::Command::new("chroot")
            .arg(self.root())
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .env("PATH", PATH)
            .output()
            .expect("chroot");
        assert!(run.status.success(), "{script}: {}", String::from_utf8_lossy(&run.stderr));
    }

    fn copy(&self, arguments: &str) {
        let files = arguments.strip_prefix("--from=build ").expect("from the stage that builds");
        let mut files: Vec<_> = files.split_whitespace().collect();
        let folder = files.pop().expect("a destination");
        assert!(folder.ends_with('/'), "{folder} is a folder");
        for file in files {
            let name = Path::new(file).file_name().expect("a name").to_str().expect("text");
            let to = format!("{folder}{name}");
            match file {
                // With the stage's own profile, it would be the same program.
                "/build/target/release/penstock" => self.import(env!("CARGO_BIN_EXE_penstock"), &to),
                "/build/LICENSE" => self.import(&format!("{ROOT}/LICENSE"), &to),
                "/build/sbom.cdx.json" => {
                    let made = std::process::Command::new(format!("{ROOT}/.ci/sbom")).output().expect("bash runs it");
                    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                    fs::write(self.path(&to), made.stdout).expect("the bill of materials");
                }
                "/etc/ssl/certs/ca-certificates.crt" => self.import(file, &to),
                _ => panic!("the test does not know {file}"),
            }
        }
    }
}

/// The libraries that a program loads, by their paths.
pub(crate) fn libraries(program: &Path) -> BTreeSet<String> {
    let told = std::process::Command::new("ldd").arg(program).output().expect("ldd");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// A running container: a process in the image as its user, without capabilities, with a read-only root, and a volume.
pub(crate) struct Container<'a> {
    image: &'a Image,
    volume: TempDir,
    process: Child,
    /// The process's id on this machine. In the container it is 1.
    pid: Pid,
    env: Vec<(String, String)>,
    pub(crate) base: String,
}

impl<'a> Container<'a> {
    pub(crate) async fn start(image: &'a Image) -> Self {
        let volume = tempfile::tempdir().expect("a folder");
        // As an engine makes a volume: like the folder of the image.
        let folder = fs::metadata(image.path(image.dockerfile.volume())).expect("the folder is in the image");
        let (user, group) = image.dockerfile.user().split_once(':').expect("a user and a group");
        chown(volume.path(), user.parse().ok(), group.parse().ok()).expect("its owner");
        fs::set_permissions(volume.path(), folder.permissions()).expect("its mode");
        // Other nodes on this machine have the port of the image.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut env = image.dockerfile.env();
        for (name, value) in &mut env {
            if name == "PENSTOCK_BIND" {
                *value = format!("{}:{port}", value.split_once(':').expect("an address").0);
            }
        }
        env.push(("PENSTOCK_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()));
        env.push(("PATH".to_owned(), PATH.to_owned()));
        let devices = DEVICES.map(|device| format!("mount --bind /dev/{device} \"$root/dev/{device}\"\n")).concat();
        let script = format!(
            "set -e; root=$1 volume=$2 folder=$3 user=$4; shift 4\n\
             mount --bind \"$root\" \"$root\"; mount -t proc proc \"$root/proc\"\n\
             mount --bind \"$volume\" \"$root$folder\"\n{devices}\
             mount -o remount,bind,ro \"$root\"\n\
             exec setpriv --no-new-privs chroot --userspec=\"$user\" --groups= \"$root\" \"$@\""
        );
        let mut process = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--", "bash", "-c", &script, "container"])
            .arg(image.root())
            .arg(volume.path())
            .args([image.dockerfile.volume(), image.dockerfile.user()])
            .args(image.dockerfile.command())
            .env_clear()
            .envs(env.iter().cloned())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if line.starts_with("listening on ") {
                    return;
                }
            }
            panic!("the node ends before it listens");
        };
        tokio::time::timeout(PATIENCE, listening).await.expect("the node starts in time");
        let parent = process.id().expect("a running process");
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("its children");
        let pid = Pid::from_raw(children.trim().parse().expect("one child"));
        Self { image, volume, process, pid, env, base: format!("http://127.0.0.1:{port}") }
    }

    pub(crate) fn volume(&self) -> &Path {
        self.volume.path()
    }

    /// The lines of the process's state, as `CapEff`.
    pub(crate) fn state(&self, name: &str) -> Vec<String> {
        let state = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process is there");
        let line = state.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("such a line");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Runs another program in the container, as `docker exec` does, as this user.
    pub(crate) async fn exec(&self, user: &str, command: &[String]) -> ExitStatus {
        let (user, group) = user.split_once(':').expect("a user and a group");
        Command::new("nsenter")
            .args(["--target", &self.pid.to_string(), "--mount", "--pid", "--root", "--wd=/"])
            .args(["--setuid", user, "--setgid", group, "--"])
            .args(command)
            .env_clear()
            .envs(self.env.iter().cloned())
            .stderr(Stdio::null())
            .status()
            .await
            .expect("nsenter")
    }

    /// The container's health, by the command of the image.
    pub(crate) async fn is_healthy(&self) -> bool {
        self.exec(self.image.dockerfile.user(), &self.image.dockerfile.health_check()).await.success()
    }

    /// Sends the image's signal for a stop.
    pub(crate) fn stop(&self) {
        self.signal(self.image.dockerfile.stop_signal().parse().expect("a signal"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the process is there");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it stops in time").expect("a status")
    }
}
