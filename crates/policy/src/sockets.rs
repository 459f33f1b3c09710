//! Unix sockets of the machine that exist inside (`"unix:/run/x.sock" = "unix:/run/x.sock"` in
//! `[network.services]`), and those that never do, because access to them is control of the
//! machine.

use crate::{fields::shown, view_path::view_path};

/// The prefix of such a service, on both sides.
pub(crate) const PREFIX: &str = "unix:";
/// Directories inside in which sockets can be: the session's own.
const INSIDE: [&str; 3] = ["/run/", "/var/run/", "/tmp/"];
/// The boundary's own directory among them.
const OWN: &str = "/run/stockade";
/// Longest path of a socket (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// How a part of a path shows whose socket it is.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A file or directory has this name.
    Is(&'static str),
    /// The name of a file or directory begins with this.
    Begins(&'static str),
}

const CONTAINERS: &str = "starts containers, with any directory of the machine in them";
const SERVICES: &str = "starts and changes services of the machine";
const KEYS: &str = "signs and logs in with your keys";
const SCREEN: &str = "reads and types on your screen";
const TERMINALS: &str = "types into your terminals";
const MACHINES: &str = "starts machines and reads their disks";

/// The owners of sockets that control the machine, and what access to them gives away.
const CONTROL: [(Part, &str); 41] = [
    (Part::Is("docker"), CONTAINERS),
    (Part::Begins("docker."), CONTAINERS),
    (Part::Begins("docker-raw"), CONTAINERS),
    (Part::Is("podman"), CONTAINERS),
    (Part::Begins("podman."), CONTAINERS),
    (Part::Is("containerd"), CONTAINERS),
    (Part::Begins("containerd."), CONTAINERS),
    (Part::Begins("containerd-"), CONTAINERS),
    (Part::Begins("buildkit"), CONTAINERS),
    (Part::Is("crio"), CONTAINERS),
    (Part::Begins("crio."), CONTAINERS),
    (Part::Begins("cri-dockerd"), CONTAINERS),
    (Part::Is("k3s"), CONTAINERS),
    (Part::Is("systemd"), SERVICES),
    (Part::Is("dbus"), SERVICES),
    (Part::Begins("dbus-"), SERVICES),
    (Part::Is("bus"), SERVICES),
    (Part::Begins("system_bus"), SERVICES),
    (Part::Begins("polkit"), SERVICES),
    (Part::Begins("snapd"), SERVICES),
    (
        Part::Is("daemon-socket"),
        "builds and installs for the whole machine",
    ),
    (Part::Begins("ssh-"), KEYS),
    (Part::Is("ssh"), KEYS),
    (Part::Begins("agent."), KEYS),
    (Part::Begins("S.gpg"), KEYS),
    (Part::Begins("S.scdaemon"), KEYS),
    (Part::Begins("S.keyboxd"), KEYS),
    (Part::Is("gnupg"), KEYS),
    (Part::Is(".gnupg"), KEYS),
    (Part::Is("keyring"), KEYS),
    (Part::Begins("keyring-"), KEYS),
    (Part::Is("pcscd"), KEYS),
    (Part::Is(".X11-unix"), SCREEN),
    (Part::Is(".ICE-unix"), SCREEN),
    (Part::Begins("wayland-"), SCREEN),
    (Part::Begins("pipewire-"), SCREEN),
    (Part::Begins("tmux-"), TERMINALS),
    (Part::Begins("vscode-ipc"), TERMINALS),
    (Part::Is("libvirt"), MACHINES),
    (Part::Is("lxd"), MACHINES),
    (Part::Is("incus"), MACHINES),
];

/// Says what access to a socket gives away, if its path shows that it controls the machine.
pub fn control_socket(path: &str) -> Option<&'static str> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    parts.find_map(|part| {
        let fits = |own: &Part| match own {
            Part::Is(name) => part == *name,
            Part::Begins(begin) => part.starts_with(begin),
        };
        let found = CONTROL.iter().find(|(own, _)| fits(own));
        found.map(|(_, what)| *what)
    })
}

/// Returns whether a text of `[network.services]` names a Unix socket.
pub(crate) fn is_meant(text: &str) -> bool {
    text.starts_with(PREFIX) || text.starts_with('/')
}

/// Reads the path of a socket inside and its path on the machine.
pub(crate) fn read(inside: &str, outside: &str) -> Result<(String, String), String> {
    let (Some(inside), Some(outside)) = (inside.strip_prefix(PREFIX), outside.strip_prefix(PREFIX))
    else {
        return Err(
            "a socket with a path is offered as one: write `\"unix:/run/x.sock\" = \
             \"unix:/run/x.sock\"`, the place inside and the one on this machine"
                .to_owned(),
        );
    };
    let (inside, outside) = (place(inside)?, place(outside)?);
    let is_own = inside == OWN || inside.starts_with("/run/stockade/");
    if is_own || !INSIDE.iter().any(|above| inside.starts_with(above)) {
        return Err(format!(
            "`{}` is no place for a socket inside; write one below /run, /var/run or /tmp",
            shown(&inside)
        ));
    }
    if let Some(what) = control_socket(&outside) {
        return Err(format!(
            "`{}` is not offered to a session: a program that talks to it {what}",
            shown(&outside)
        ));
    }
    Ok((inside, outside))
}

fn place(text: &str) -> Result<String, String> {
    let path = view_path(text)?;
    if path.starts_with('~') || path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "`{}`: write the whole path of the socket, at most {PATH_BYTES_MAX} bytes",
            shown(text)
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{control_socket, read};

    #[test]
    fn databases_are_services_and_control_of_the_machine_is_not() {
        for path in [
            "/run/postgresql/.s.PGSQL.5432",
            "/run/mysqld/mysqld.sock",
            "/var/run/redis/redis-server.sock",
            "/tmp/.s.PGSQL.5432",
            "/srv/app/app.sock",
        ] {
            assert_eq!(control_socket(path), None, "{path}");
        }
        for path in [
            "/run/docker.sock",
            "/var/run/docker/containerd/containerd.sock",
            "/run/user/1000/podman/podman.sock",
            "/run/containerd/containerd.sock",
            "/run/systemd/private",
            "/run/user/1000/systemd/notify",
            "/run/dbus/system_bus_socket",
            "/run/user/1000/bus",
            "/tmp/ssh-XXXX/agent.77",
            "/run/user/1000/keyring/ssh",
            "/run/user/1000/gnupg/S.gpg-agent.ssh",
            "/home/dev/.gnupg/S.gpg-agent",
            "/tmp/.X11-unix/X0",
            "/run/user/1000/wayland-0",
            "/tmp/tmux-1000/default",
            "/nix/var/nix/daemon-socket/socket",
        ] {
            assert!(control_socket(path).is_some(), "{path}");
            let text = format!("unix:{path}");
            let message = read("unix:/run/x.sock", &text).unwrap_err();
            assert!(message.contains("not offered"), "{message}");
        }
    }

    #[test]
    fn places_are_the_sessions_own() {
        let read = |inside: &str| read(inside, "unix:/run/x.sock");
        assert_eq!(
            read("unix:/run//y/./x.sock"),
            Ok(("/run/y/x.sock".to_owned(), "/run/x.sock".to_owned()))
        );
        for inside in [
            "unix:/etc/x",
            "unix:/run/stockade/x",
            "unix:/run/../etc/x",
            "unix:~/x",
            "unix:/run",
            "/run/x.sock",
            "localhost:5432",
        ] {
            read(inside).unwrap_err();
        }
    }
}
