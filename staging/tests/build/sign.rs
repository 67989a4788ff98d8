//! `sign`.

use std::fs;

use crate::fixture::Site;

fn released() -> Option<(Site, String)> {
    let site = Site::new()?;
    site.version("v1.0.0");
    site.run(&["send", "v1.0.0"]).done();
    let path = site.text("b/releases/v1.0.0.json");
    Some((site, path))
}

#[test]
fn keys_are_chosen_and_signatures_replaced_on_purpose() {
    let Some((site, path)) = released() else {
        return;
    };
    let old = site.key("old");
    let new = site.key("new");
    assert_eq!(
        site.json(&["sign", &path, "--key", &old])["fingerprint"],
        old.as_str()
    );
    site.run(&["sign", &path, "--key", &new])
        .failed(8, "--replace");
    let signed = site.json(&["sign", &path, "--key", &new, "--replace"]);
    assert_eq!(signed["fingerprint"], new.as_str());
    // Both, while keys are exchanged.
    let signed = site.json(&["sign", &path, "--key", &old, "--key", &new, "--replace"]);
    let issuers = signed["issuers"].to_string();
    assert!(
        issuers.contains(&old) && issuers.contains(&new),
        "{issuers}"
    );
    site.gpg(&["--verify", &format!("{path}.asc"), &path]);
    let said = site.run(&["sign", &path, "--replace"]).done();
    assert!(
        said.contains("gpg --verify ") && said.contains(&old),
        "{said}"
    );
    assert_eq!(
        site.releases(),
        [
            "v1.0.0.btrfs.zst",
            "v1.0.0.json",
            "v1.0.0.json.asc",
            "v1.0.0.sha256"
        ]
    );
}

#[test]
fn what_no_device_would_read_is_not_signed() {
    let Some((site, path)) = released() else {
        return;
    };
    site.key("release");
    let good = fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "{}",
        &good.replace("\"schema\": 1", "\"schema\": 99"),
        &good[..good.len() / 2],
    ] {
        fs::write(&path, bad).unwrap();
        site.run(&["sign", &path]).failed(9, "as it is");
    }
    site.run(&["sign", "/nonexistent.json"])
        .failed(1, "op-dbus-stage send");
    assert!(!fs::exists(format!("{path}.asc")).unwrap());
    fs::write(&path, good).unwrap();
    site.run(&["sign", &path]).done();
}

#[test]
fn what_gpg_makes_is_looked_at() {
    let Some((site, path)) = released() else {
        return;
    };
    let key = site.key("release");
    let run = |program: &str| site.run(&["sign", &path, "--gpg", program]);
    run("/nonexistent").failed(1, "install gnupg");
    run(&site.script("fails", "echo no key >&2; exit 2")).failed(1, "made no signature");
    run(&site.script("silent", "cat >/dev/null")).failed(9, "gpg's signature");
    run(&site.script("garbage", "cat >/dev/null; echo nonsense")).failed(9, "gpg's signature");
    run(&site.script("endless", "yes")).failed(1, "made no signature");
    // Over other bytes; over text; one that expires.
    let gpg = format!("exec gpg --homedir {} --batch", site.text("gpg"));
    let not_signing = "case \"$*\" in *--export*) exec gpg \"$@\";; esac";
    run(&site.script(
        "other",
        &format!("{not_signing}; cat >/dev/null; echo other | {gpg} -ab"),
    ))
    .failed(9, "no device would accept it");
    run(&site.script("text", &format!("{not_signing}; {gpg} -abt"))).failed(9, "exact bytes");
    run(&site.script(
        "expires",
        &format!("{not_signing}; {gpg} --default-sig-expire 1d -ab"),
    ))
    .failed(9, "expires");
    assert!(!fs::exists(format!("{path}.asc")).unwrap());
    // A program that signs elsewhere exports nothing: what can't be checked is told.
    let remote = site.script(
        "remote",
        &format!("case \"$*\" in *--export*) exit 2;; esac; {gpg} -ab"),
    );
    let ended = run(&remote);
    assert!(
        ended.stderr.contains("was not checked as a device would"),
        "{ended:?}"
    );
    assert!(ended.done().contains(&key));
}

/// The terminal is gpg's: prompts reach it, and the result stays apart.
#[test]
fn gpg_has_the_terminal() {
    let Some((site, path)) = released() else {
        return;
    };
    site.key("release");
    let program = site.script(
        "wrapped",
        &format!(
            "case \"$*\" in *--export*) exec gpg \"$@\";; esac\necho 'touch your key' >&2; exec gpg --homedir {} \"$@\"",
            site.text("gpg")
        ),
    );
    let ended = site.run(&["sign", &path, "--gpg", &program, "--json"]);
    assert!(ended.stderr.contains("touch your key"), "{ended:?}");
    let value: serde_json::Value = serde_json::from_str(&ended.done()).unwrap();
    assert_eq!(value["result"], "signed");
}
