//! A disk that fails under a session that runs (family T): nothing goes on without its record.

use std::{fs, path::Path, time::Duration};

use stockade_testkit::{TestEnv, run::require_tool};

use crate::attacks::environment;

/// Mounts a small disk with ext4 at the place of the state, in a mount namespace of its own, and runs a
/// session whose command makes files one after the other. `$HOW` says what happens to the disk once the
/// first are made. The record is copied to `$OUT` in the end.
const ON_A_DISK: &str = r#"
    made() { ls made-* 2> /dev/null | wc -l; }
    until_made() { i=0; while [ $(made) -lt $1 ]; do sleep 0.05; i=$((i+1)); [ $i -lt 400 ] || exit 97; done; }
    truncate -s 32M "$IMAGE" && mkfs.ext4 -q "$IMAGE" || exit 99
    options=loop,errors=remount-ro
    if [ $HOW = slow ]; then
        mkdir "$OUT/disk"
        python3 "$SLOW" "$IMAGE" "$OUT/disk" "$OUT/writes" &
        disk=$!
        i=0; until [ -f "$OUT/disk/image" ]; do sleep 0.05; i=$((i+1)); [ $i -lt 200 ] || exit 95; done
        IMAGE=$OUT/disk/image options=$options,sync
    fi
    mount -o $options "$IMAGE" "$STOCKADE_STATE_DIR" || exit 98
    device=$(basename $(losetup --noheadings --output NAME --associated "$IMAGE"))
    chmod 700 "$STOCKADE_STATE_DIR"
    "$@" &
    session=$!
    until_made $((FILES / 4))
    case $HOW in
    slow)
        while [ $(made) -lt $FILES ] && kill -0 $session; do
            m=$(made)
            r=$(cat "$STOCKADE_STATE_DIR"/sessions/*/journal.jsonl | grep '"file.changed"' | grep -c /made-)
            echo $m $r >> "$OUT/samples"
            sleep 0.1
        done ;;
    read-only) echo 1 > /sys/fs/ext4/$device/trigger_fs_error ;;
    hanging)
        fsfreeze --freeze "$STOCKADE_STATE_DIR"
        sleep 1
        made > "$OUT/early"
        sleep 2
        made > "$OUT/late"
        fsfreeze --unfreeze "$STOCKADE_STATE_DIR" ;;
    esac
    wait $session
    code=$?
    cp -r "$STOCKADE_STATE_DIR/sessions" "$OUT/" || exit 96
    if [ $HOW = slow ]; then
        umount "$STOCKADE_STATE_DIR" && umount "$OUT/disk" && wait $disk || exit 94
    else
        umount --lazy "$STOCKADE_STATE_DIR"
    fi
    exit $code"#;

/// Files that the command makes, one in ten milliseconds.
const FILES: usize = 200;
/// Files that it makes if each write of the disk takes [`WRITE_MS`] milliseconds.
const FILES_SLOWLY: usize = 40;
const WRITE_MS: usize = 10;

struct Ended {
    code: i32,
    stderr: String,
    made: usize,
    recorded: usize,
}

fn run(env: &TestEnv, how: &str, files: usize) -> Ended {
    for tool in ["unshare", "python3", "mkfs.ext4", "losetup", "fsfreeze"] {
        require_tool(tool);
    }
    let repo = env.repo_named(how);
    let out = env.root().join(format!("out-{how}"));
    fs::create_dir_all(&out).expect("the directory is ours");
    let line = format!(
        "i=0; while [ $i -lt {files} ]; do : > made-$i || exit 9; i=$((i+1)); sleep 0.01; done"
    );
    let session = env
        .session(repo.path())
        .args(["--", "/bin/sh", "-c", &line])
        .into_command();
    let mut run = env
        .command("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            ON_A_DISK,
            "sh",
        ])
        .arg(session.get_program())
        .args(session.get_args())
        .current_dir(repo.path())
        .timeout(Duration::from_mins(1))
        .env("HOW", how)
        .env("FILES", files.to_string())
        .env("WRITE_MS", WRITE_MS.to_string())
        .env("SLOW", env.write("slow.py", include_str!("slow.py")))
        .env("IMAGE", env.root().join(format!("image-{how}")))
        .env("OUT", &out);
    for (name, value) in session.get_envs() {
        run = run.env(name, value.unwrap_or_default());
    }
    let output = run.output();
    let made = fs::read_dir(repo.path()).expect("the workspace is there");
    let made = made
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"made-"))
        .count();
    Ended {
        code: output.code(),
        stderr: output.stderr.clone(),
        made,
        recorded: recorded(&out),
    }
}

/// Counts the files whose making is in the copied record.
fn recorded(out: &Path) -> usize {
    let mut sessions = fs::read_dir(out.join("sessions")).expect("it was copied");
    let session = sessions.find_map(Result::ok);
    let journal = session.expect("there is one").path().join("journal.jsonl");
    let text = fs::read_to_string(journal).expect("the journal is text");
    let lines = text.lines();
    lines
        .filter(|line| line.contains("\"file.changed\"") && line.contains("/made-"))
        .count()
}

fn number(env: &TestEnv, how: &str, name: &str) -> usize {
    let file = env.root().join(format!("out-{how}")).join(name);
    let text = fs::read_to_string(file).expect("it was counted");
    text.trim().parse().expect("a number")
}

/// The disk turns read-only under the session: it is denied and ended, and says why. One that hangs holds
/// up what needs a record, and nothing is missing once it goes on. The control is a disk that stays.
#[test]
fn t10_a_disk_that_turns_read_only_or_hangs_lets_nothing_pass_needs_root() {
    let env = &environment(None);
    let whole = run(env, "whole", FILES);
    assert_eq!(
        (whole.code, whole.made, whole.recorded),
        (0, FILES, FILES),
        "{}",
        whole.stderr
    );

    let hung = run(env, "hanging", FILES);
    assert_eq!(
        (hung.code, hung.made, hung.recorded),
        (0, FILES, FILES),
        "{}",
        hung.stderr
    );
    // What was on its way when the disk froze can still be done, and its caller has no answer.
    let (early, late) = (
        number(env, "hanging", "early"),
        number(env, "hanging", "late"),
    );
    assert!(
        late <= early + 1 && late < FILES,
        "{early} and {late} while the disk hung"
    );

    let ended = run(env, "read-only", FILES);
    assert_eq!(ended.code, 137, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the session was ended"),
        "{}",
        ended.stderr
    );
    assert!((50..FILES).contains(&ended.made), "{} files", ended.made);
    // What a program was told of is in the record; the last file was made, but its call failed.
    assert!(
        ended.recorded + 1 >= ended.made,
        "{} of {}",
        ended.recorded,
        ended.made
    );
}

/// Each write of the disk takes its time: what needs a record waits for it, and nothing is missing, early or
/// said to be wrong. The control of the disk is that it has counted the writes that it delayed.
#[test]
fn t10_a_slow_disk_holds_up_what_needs_a_record_and_loses_nothing_needs_root() {
    let env = &environment(None);
    let slow = run(env, "slow", FILES_SLOWLY);
    assert_eq!(
        (slow.code, slow.made, slow.recorded),
        (0, FILES_SLOWLY, FILES_SLOWLY),
        "{}",
        slow.stderr
    );
    let writes = number(env, "slow", "writes");
    assert!(writes > FILES_SLOWLY, "{writes} writes were slow");
    let samples = env.root().join("out-slow/samples");
    let samples = fs::read_to_string(samples).expect("it took long enough to look");
    for sample in samples.lines() {
        let (made, recorded) = sample.split_once(' ').expect("two numbers");
        let of = |text: &str| text.parse::<usize>().expect("a number");
        // The last file is made, and its call has no answer yet.
        assert!(of(made) <= of(recorded) + 1, "{sample} in {samples}");
    }
}
