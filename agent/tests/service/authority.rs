//! Who may do what.

use zbus::blocking::Connection;
use zbus::message::Flags;
use zbus::zvariant::DynamicType;

use crate::bus::{NOBODY, SOMEBODY, object, refusal};
use crate::fake::{Answer, Polkit, Service, until};

const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

/// A call that allows questions.
fn ask(
    connection: &Connection,
    method: &str,
    body: &(impl serde::Serialize + DynamicType),
) -> zbus::Result<()> {
    let message = zbus::Message::method_call("/org/opdbus/Deploy1", method)
        .and_then(|it| it.destination("org.opdbus.Deploy1"))
        .and_then(|it| it.interface("org.opdbus.Deploy1"))
        .and_then(|it| it.with_flags(Flags::AllowInteractiveAuth))
        .and_then(|it| it.build(body))
        .unwrap();
    connection.send(&message)
}

#[test]
fn root_is_not_asked_and_others_may_nothing_without_polkit() {
    let Some(service) = Service::start() else {
        return;
    };
    let root = object(&service.bus.connect(0));
    root.call::<_, _, String>("Stage", &"v1.1.0").unwrap();
    let nobody = object(&service.bus.connect(NOBODY));
    for refused in [
        nobody.call::<_, _, ()>("Stage", &"v1.1.0"),
        nobody.call::<_, _, ()>("Rollback", &""),
        nobody.call::<_, _, ()>("Cancel", &()),
        crate::operation::receive(&nobody, &service).map(|_| ()),
    ] {
        let (name, text) = refusal(refused);
        assert_eq!(name, DENIED);
        assert!(text.contains("without it only root"), "{text}");
    }
    assert_eq!(service.calls().len(), 1);
    assert!(service.calls()[0].ends_with("--for-uid=0 stage -- v1.1.0"));
}

#[test]
fn polkit_decides_for_the_others() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::Yes);
    let connection = service.bus.connect(NOBODY);
    let nobody = object(&connection);
    nobody.call::<_, _, String>("Stage", &"v1.1.0").unwrap();
    nobody
        .call::<_, _, (String, String)>("Rollback", &"")
        .unwrap();
    nobody
        .call::<_, _, (String, String)>("Rollback", &"v0.8.0")
        .unwrap();
    nobody
        .call::<_, _, (String, String)>("Cancel", &())
        .unwrap();
    let asked = polkit.questions();
    let actions: Vec<_> = asked
        .iter()
        .map(|question| question.action.as_str())
        .collect();
    let all = ["stage", "rollback", "rollback", "cancel"]
        .map(|verb| format!("org.opdbus.deploy1.{verb}"));
    assert_eq!(actions, all);
    let about = |at: usize| asked[at].about.get("version").map(String::as_str);
    assert_eq!(
        [about(0), about(1), about(2), about(3)],
        [Some("v1.1.0"), Some("fallback"), Some("v0.8.0"), None]
    );
    let unique = connection.inner().unique_name().unwrap().to_string();
    assert!(
        asked
            .iter()
            .all(|question| question.name == unique && question.flags == 0)
    );
    let calls = service.calls();
    assert!(
        calls
            .iter()
            .all(|call| call.contains(&format!("--for-uid={NOBODY} "))),
        "{calls:?}"
    );

    for (answer, name) in [
        (Answer::No, DENIED),
        (Answer::Dismissed, DENIED),
        (
            Answer::Challenge,
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
        ),
    ] {
        polkit.answers(answer);
        assert_eq!(refusal(nobody.call::<_, _, ()>("Stage", &"v1.1.0")).0, name);
    }
    assert_eq!(service.calls().len(), 4);
}

#[test]
fn a_call_that_allows_questions_says_so() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::Yes);
    let connection = service.bus.connect(NOBODY);
    ask(&connection, "Cancel", &()).unwrap();
    until("the question", || {
        (polkit.questions().len() == 1).then_some(())
    });
    assert_eq!(polkit.questions()[0].flags, 1);
}

#[test]
fn what_no_version_can_be_called_nobody_is_asked_about() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::Yes);
    let nobody = object(&service.bus.connect(NOBODY));
    let long = format!("v1.0.0-{}", "a".repeat(5000));
    for name in [
        "--help",
        "--allow-quarantined",
        "v1.0.0\n",
        "../v1.0.0",
        "v1.0.0 v2.0.0",
        "$(version)",
        &long,
    ] {
        for method in ["Stage", "Rollback"] {
            let (error, _) = refusal(nobody.call::<_, _, ()>(method, &name));
            assert_eq!(
                error, "org.opdbus.Deploy1.Error.InvalidArgument",
                "{method} {name}"
            );
        }
    }
    let (error, _) = refusal(nobody.call::<_, _, ()>("Stage", &""));
    assert_eq!(error, "org.opdbus.Deploy1.Error.InvalidArgument");
    assert_eq!((polkit.questions(), service.calls()), (vec![], vec![]));
}

#[test]
fn a_question_goes_with_who_asked() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::None);
    let connection = service.bus.connect(NOBODY);
    ask(&connection, "Stage", &"v1.1.0").unwrap();
    let question = until("the question", || polkit.questions().pop());
    connection.close().unwrap();
    until("the cancellation", || {
        polkit
            .cancelled()
            .contains(&question.cancellation)
            .then_some(())
    });
    // Whatever polkit says after that changes nothing, and others are served.
    polkit.answers(Answer::Yes);
    let other = object(&service.bus.connect(SOMEBODY));
    other.call::<_, _, (String, String)>("Cancel", &()).unwrap();
    assert!(
        service.calls()[0].ends_with("cancel"),
        "{:?}",
        service.calls()
    );
}

#[test]
fn a_flood_of_calls_has_few_questions_and_keeps_nobody_out() {
    let Some(service) = Service::start() else {
        return;
    };
    let polkit = Polkit::start(&service.bus, Answer::None);
    let connections: Vec<_> = (0..5).map(|_| service.bus.connect(NOBODY)).collect();
    let mut waiting = Vec::new();
    for at in 0..200 {
        let deploy = object(&connections[at % 5]);
        waiting.push(std::thread::spawn(move || {
            deploy.call::<_, _, ()>("Stage", &"v1.1.0")
        }));
    }
    // All but four for this user are refused at once.
    let refused = || waiting.iter().filter(|call| call.is_finished()).count();
    until("the refusals", || (refused() == 196).then_some(()));
    assert_eq!(polkit.questions().len(), 4);
    let other = service.bus.connect(SOMEBODY);
    ask(&other, "Cancel", &()).unwrap();
    until("another user's question", || {
        (polkit.questions().len() == 5).then_some(())
    });
    object(&service.bus.connect(0))
        .call::<_, _, String>("Stage", &"v1.1.0")
        .unwrap();
    assert_eq!(service.calls().len(), 1);
    polkit.answers(Answer::No);
    for call in waiting {
        let (name, _) = refusal(call.join().unwrap());
        assert!(
            [DENIED, "org.freedesktop.DBus.Error.LimitsExceeded"].contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn only_root_may_be_the_service() {
    let Some(service) = Service::start() else {
        return;
    };
    let nobody = service.bus.connect(NOBODY);
    let why = nobody
        .request_name("org.opdbus.Deploy1")
        .unwrap_err()
        .to_string();
    assert!(why.contains("not allowed to own"), "{why}");
}
