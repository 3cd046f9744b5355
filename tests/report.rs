// SPDX-License-Identifier: GPL-2.0-or-later
//! The output of `report` and `watch` for actual runs; `ci/browser` tests the page in a browser.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use common::{eam_config, json, lammps_otf, lines, root, succeed, text};
use serde_json::Value;

/// Heats EAM aluminium and polls its kinetic energy, which is fast to evaluate.
const HOT: &str = "temperature = [300, 900]\nsteps = 400\nsampling_interval = 10\nseed = 7\nmode = \"flag\"\n\
                   uncertainty_threshold = 1000.0\nuncertainty_low = 900.0\nuncertainty = { compute = \"u\" }\n\
                   setup = [\"compute u all ke/atom\"]\n";

/// A run of some hundred polls in `out`.
fn heated_run(folder: &Path) -> Value {
    let config = eam_config(folder, 4, HOT);
    succeed(lammps_otf().current_dir(folder).args(["-q", "run"]).arg(config).args(["-o", "out"]));
    json(&folder.join("out/result.json"))
}

/// The data of a page.
fn data(page: &Path) -> Value {
    let html = std::fs::read_to_string(page).unwrap();
    let start = "<script id=\"data\" type=\"application/json\">";
    let data = html.split_once(start).expect("data").1.split_once("</script>").expect("their end").0;
    serde_json::from_str(data).unwrap()
}

#[test]
fn page_contains_the_data_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let result = heated_run(folder.path());
    let out = folder.path().join("out");
    let polls = lines(&out.join("polls.jsonl"));
    assert!(polls.iter().all(|poll| poll["format"] == 1));
    let said = succeed(lammps_otf().arg("report").arg(&out).arg("--plots").arg(folder.path().join("plots")));
    assert_eq!(said.lines().count(), 1 + 14, "the page and seven plots, twice each: {said}");
    let report = data(&out.join("report.html"));
    let series = &report["parts"][0]["series"];
    assert_eq!(series["polls"].as_u64(), Some(polls.len() as u64));
    for (k, poll) in polls.iter().enumerate() {
        let near = |key: &str, value: &Value| {
            let (shown, value) = (series[key][k].as_f64().unwrap(), value.as_f64().unwrap());
            assert!((shown - value).abs() <= 1e-5 * value.abs(), "{key}: {shown} instead of {value}");
        };
        near("time", &poll["time"]);
        near("gamma_max", &poll["gamma"]["max"]);
        near("q99", &poll["gamma"]["q99"]);
        near("temperature", &poll["temperature"]);
    }
    // The histogram contains every atom of every poll.
    let counted: u64 = series["histogram"].as_array().unwrap().iter().map(|bin| bin[2].as_u64().unwrap()).sum();
    assert_eq!(counted, polls.len() as u64 * result["atoms"].as_u64().unwrap());
    let known = json(&out.join("run.json"));
    assert_eq!((&known["config"]["seed"], &known["ranks"]), (&7.into(), &1.into()));
    assert_eq!((&report["provenance"], &report["result"]), (&known, &result));
    assert_eq!(report["status"], result["status"].as_str().unwrap().to_lowercase());

    for name in ["gamma", "temperature", "energy", "above", "histogram"] {
        let svg = std::fs::read_to_string(folder.path().join(format!("plots/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("polyline"), "{name}: {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        let png = std::fs::read(folder.path().join(format!("plots/{name}.png"))).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(png[16..24], [0, 0, 7, 128, 0, 0, 4, 176], "1920 by 1200");
    }
}

#[test]
fn report_of_a_killed_run_is_written_and_other_folders_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    heated_run(folder.path());
    let out = folder.path().join("out");
    for name in ["result.json", "run.json", "candidates.db"] {
        std::fs::remove_file(out.join(name)).unwrap();
    }
    let mut polls = std::fs::File::options().append(true).open(out.join("polls.jsonl")).unwrap();
    polls.write_all(b"{\"no poll\": 1}\n{\"format\": 99}\n{\"step\":").unwrap();
    let report = lammps_otf().arg("report").arg(&out).output().unwrap();
    assert_eq!(report.status.code(), Some(0));
    assert!(text(&report).contains("2 lines could not be read"), "{}", text(&report));
    let page = data(&out.join("report.html"));
    assert_eq!(page["status"], "ended without a result");
    assert!(page["ending"].as_str().unwrap().contains("no process holds run.lock"), "{}", page["ending"]);
    assert_eq!(page["parts"][0]["series"]["polls"], 41);
    assert!(page["high"].is_null());

    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for command in ["report", "watch"] {
        let refused = lammps_otf().arg(command).arg(&empty).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused).contains("neither polls.jsonl nor round-001/"), "{}", text(&refused));
    }
    assert_eq!(lammps_otf().arg("report").arg(folder.path().join("none")).output().unwrap().status.code(), Some(2));
}

#[test]
fn page_of_a_long_run_is_small() {
    let folder = tempfile::tempdir().unwrap();
    heated_run(folder.path());
    let out = folder.path().join("out");
    let one = std::fs::read_to_string(out.join("polls.jsonl")).unwrap().lines().last().unwrap().to_owned();
    let (before, after) = one.split_once("\"step\":400").unwrap();
    let mut polls = std::io::BufWriter::new(std::fs::File::create(out.join("polls.jsonl")).unwrap());
    for step in 0..100_000 {
        writeln!(polls, "{before}\"step\":{step}{after}").unwrap();
    }
    drop(polls);
    succeed(lammps_otf().arg("report").arg(&out));
    let size = out.join("report.html").metadata().unwrap().len();
    assert!(size < 800_000, "{size} bytes");
    assert_eq!(data(&out.join("report.html"))["parts"][0]["series"]["polls"], 100_000);
}

#[test]
fn page_has_a_part_for_each_replica() {
    let folder = tempfile::tempdir().unwrap();
    let config = eam_config(folder.path(), 4, HOT);
    let mut run = common::mpiexec(2);
    run.current_dir(folder.path()).arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["-q", "run"]);
    succeed(run.arg(config).args(["-o", "out", "--replicas", "2"]));
    let out = folder.path().join("out");
    succeed(lammps_otf().arg("report").arg(&out));
    let page = data(&out.join("report.html"));
    assert_eq!((&page["kind"], &page["parts"][1]["name"]), (&"replicas".into(), &"replica-01".into()));
    assert!(page["parts"][0]["series"]["temperature"] != page["parts"][1]["series"]["temperature"]);
    succeed(lammps_otf().arg("report").arg(out.join("replica-01")));
    // All have ended: a single page, and it does not reload itself.
    succeed(common::limited(env!("CARGO_BIN_EXE_lammps-otf")).args(["report", "--follow"]).arg(&out));
    let page = data(&out.join("report.html"));
    assert_eq!((&page["status"], &page["reload"]), (&"2 replicas".into(), &Value::Null));
}

#[test]
fn report_follows_a_run_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    // It runs until it is killed.
    let hot = HOT.replace("steps = 400", "steps = 100000000");
    let config = eam_config(folder.path(), 4, &hot);
    let mut run =
        lammps_otf().current_dir(folder.path()).args(["-q", "run"]).arg(config).args(["-o", "out"]).spawn().unwrap();
    let out = folder.path().join("out");
    common::wait_for("polls", || out.join("polls.jsonl").is_file());
    let follow = |page: &str| {
        let mut report = lammps_otf();
        report.args(["report", "--follow", "--interval", "0.1", "-o"]).arg(folder.path().join(page)).arg(&out);
        report.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let polls = |page: &str| data(&folder.path().join(page))["parts"][0]["series"]["polls"].as_u64().unwrap();
    let [stopped, ending] = ["stopped.html", "ending.html"].map(follow);
    for page in ["stopped.html", "ending.html"] {
        common::wait_for("a page", || folder.path().join(page).is_file());
        let first = polls(page);
        common::wait_for("a newer page", || polls(page) > first);
        let live = data(&folder.path().join(page));
        assert_eq!((&live["status"], &live["reload"]), (&"running".into(), &0.1.into()));
    }
    // Ctrl-C leaves a page that does not reload itself.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(stopped.id() as i32).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(6), "{}", text(&stopped));
    assert!(text(&stopped).contains("Stopped following. out: running. The run is in progress."), "{}", text(&stopped));
    let page = data(&folder.path().join("stopped.html"));
    assert_eq!((&page["status"], &page["reload"]), (&"running".into(), &Value::Null));

    run.kill().unwrap();
    run.wait().unwrap();
    let ending = ending.wait_with_output().unwrap();
    assert_eq!(ending.status.code(), Some(0), "{}", text(&ending));
    assert!(text(&ending).contains("the run was killed, or ended with an error"), "{}", text(&ending));
    let page = data(&folder.path().join("ending.html"));
    assert_eq!((&page["status"], &page["reload"]), (&"ended without a result".into(), &Value::Null));
    assert_eq!(
        polls("ending.html"),
        std::fs::read_to_string(out.join("polls.jsonl")).unwrap().matches('\n').count() as u64
    );

    // Without visible locks, only a result ends it.
    let mut forever = lammps_otf();
    forever.args(["report", "--follow", "--forever", "--interval", "0.1"]).arg(&out).stderr(Stdio::piped());
    let forever = forever.spawn().unwrap();
    common::wait_for("a page", || out.join("report.html").is_file());
    assert_eq!(data(&out.join("report.html"))["reload"], 0.1);
    std::fs::write(out.join("result.json"), "{\"status\": \"COMPLETED\"}").unwrap();
    let ended = forever.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended));
    let page = data(&out.join("report.html"));
    assert_eq!((&page["status"], &page["reload"]), (&"completed".into(), &Value::Null));
}

/// Argon and krypton in a tilted cell at a temperature (K), 300 frames, with further settings; in `name`.
fn noble_gases(folder: &Path, name: &str, temperature: u32, more: &str, trajectory: &str) -> std::path::PathBuf {
    let (a, cells) = (5.81, 4);
    let edge = a * cells as f64;
    let mut text = format!(
        "{}\nLattice=\"{edge} 0 0 {a} {edge} 0 {} {a} {edge}\" Properties=species:S:1:pos:R:3\n",
        4 * cells * cells * cells,
        -a
    );
    let mut n = 0;
    for cell in 0..cells * cells * cells {
        let corner = [cell % cells, cell / cells % cells, cell / cells / cells];
        for site in [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]] {
            let x: Vec<String> = (0..3).map(|k| format!("{}", a * (corner[k] as f64 + site[k]))).collect();
            text += &format!("{} {}\n", if n % 3 == 0 { "Kr" } else { "Ar" }, x.join(" "));
            n += 1;
        }
    }
    common::write(folder, "gases.extxyz", &text);
    let config = format!(
        "structure = \"gases.extxyz\"\ntemperature = {temperature}\ntimestep = 0.005\nsteps = 5980\nsampling_interval = 20\nseed = 5\n\
         uncertainty = \"none\"\n{more}[trajectory]\ninterval = 20\n{trajectory}[potential]\npair_style = \"lj/cut 8.5\"\n\
         pair_coeff = [\"1 1 0.0104 3.4\", \"1 2 0.012 3.5\", \"2 2 0.014 3.6\"]\ncutoff = 8.5\n"
    );
    let config = common::write(folder, &format!("{name}.toml"), &config);
    succeed(lammps_otf().current_dir(folder).args(["-q", "run"]).arg(config).args(["-o", name]));
    let out = folder.join(name);
    succeed(lammps_otf().arg("report").arg(&out));
    out
}

/// The numbers of a JSON array.
fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn radial_distribution_and_displacements_equal_those_of_ase_and_mdanalysis() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = noble_gases(folder.path(), "nvt", 160, "", "velocities = false\n");
    // A crystal, whose cell changes its size and shape.
    let free = noble_gases(folder.path(), "npt", 40, "ensemble = \"npt\"\nbarostat = \"tri\"\npressure = 300\n", "");
    for out in [&fixed, &free] {
        let trajectory = &data(&out.join("report.html"))["parts"][0]["trajectory"];
        let summary = trajectory["summary"].as_str().unwrap();
        assert!(summary.contains("300 frames of 256 atoms, one every 0.1 ps."), "{summary}");
        assert!(trajectory["radial_note"].as_str().unwrap().starts_with("Mean of 50 frames"), "{trajectory}");
        let r = numbers(&trajectory["radial"]["r"]);
        let (bins, far) = (r.len(), 0.05 * r.len() as f64);
        assert!(far > 8.0 && (r[bins - 1] - far + 0.025).abs() < 1e-4, "{far}");
        let mut python = common::python();
        python.arg(common::script("analyse_trajectory.py")).arg(out.join("trajectory.dump"));
        // ASE needs a cell of at least twice the range, at all times: the bins below that.
        let compared = if out == &fixed { bins } else { bins * 3 / 4 };
        let reference = succeed(python.args([(0.05 * compared as f64).to_string(), compared.to_string(), "6".into()]));
        let reference: Value = serde_json::from_str(&reference).unwrap();
        let pairs = trajectory["radial"]["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 3);
        for pair in pairs {
            let name = pair[0].as_str().unwrap();
            let (ours, theirs) = (numbers(&pair[1]), numbers(&reference["rdf"][name]));
            assert!(theirs.iter().fold(0.0_f64, |a, b| a.max(*b)) > 2.0, "{name}: there is a peak");
            // The page has six digits. A pair at the border of two bins may be in either.
            let wrong = ours.iter().zip(&theirs).filter(|(a, b)| (*a - *b).abs() > 1e-5 * b.max(1.0)).count();
            assert!(wrong <= 2, "{name}: {wrong} bins of {compared} differ");
        }
        if out == &free {
            for element in trajectory["displacement"]["elements"].as_array().unwrap() {
                assert!(element["diffusion"].as_str().unwrap().contains("below 1 Å²"), "{element}");
            }
            continue;
        }
        let displacement = &trajectory["displacement"];
        assert_eq!(numbers(&displacement["time"])[150], 15.0);
        for element in displacement["elements"].as_array().unwrap() {
            let name = element["name"].as_str().unwrap();
            let (ours, theirs) = (numbers(&element["msd"]), numbers(&reference["msd"][name]));
            assert_eq!((ours.len(), theirs.len()), (151, 151));
            assert!(theirs[150] > 10.0, "{name} diffuses");
            for (a, b) in ours.iter().zip(&theirs) {
                // MDAnalysis stores positions with seven digits.
                assert!((a - b).abs() < 2e-5 * b.max(1.0), "{name}: {a} instead of {b}");
            }
            // The slope of the whole curve in the same range, within three standard errors.
            let said = element["diffusion"].as_str().unwrap();
            let words: Vec<&str> = said.split(' ').collect();
            let (d, error): (f64, f64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
            let slope = (theirs[30] - theirs[15]) / 1.5;
            assert!((d - 10.0 * slope / 6.0).abs() < 3.0 * error && error < 0.3 * d, "{name}: {said}, {slope} Å²/ps");
        }
    }
    // Extended XYZ has no image flags: the shortest paths between frames are the same. LAMMPS writes ten digits.
    let plain = noble_gases(folder.path(), "xyz", 160, "", "velocities = false\nformat = \"extxyz\"\n");
    let [dump, xyz] = [&fixed, &plain].map(|out| data(&out.join("report.html"))["parts"][0]["trajectory"].clone());
    for kind in ["radial", "displacement"] {
        let text = |value: &Value| value[kind].to_string();
        let [a, b]: [Vec<f64>; 2] =
            [&dump, &xyz].map(|v| text(v).split([',', '[', ']']).filter_map(|word| word.parse().ok()).collect());
        assert_eq!(a.len(), b.len());
        let wrong = a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() > 2e-5 * b.abs().max(1.0)).count();
        assert!(wrong <= 2, "{kind}: {wrong} of {} numbers differ", a.len());
    }
}

#[test]
fn watch_shows_every_poll_and_ends_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    // Files so small that several are filled between two reads of `watch`.
    let hot = HOT.replace("sampling_interval = 10", "sampling_interval = 1");
    let config = eam_config(folder.path(), 4, &format!("{hot}polls_file_size = 0.004\npolls_files = 1000\n"));
    let mut run =
        lammps_otf().current_dir(folder.path()).args(["-q", "run"]).arg(config).args(["-o", "out"]).spawn().unwrap();
    let out = folder.path().join("out");
    common::wait_for("polls", || out.join("polls.jsonl").is_file());
    let watch = common::limited(env!("CARGO_BIN_EXE_lammps-otf"))
        .arg("watch")
        .arg(&out)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(run.wait().unwrap().success());
    let seen = watch.wait_with_output().unwrap();
    assert_eq!(seen.status.code(), Some(0), "it ends when the run does");
    let said = String::from_utf8(seen.stdout).unwrap();
    let steps: Vec<i64> = said.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert!(steps.len() > 50 && steps.is_sorted_by(|a, b| a + 1 == *b), "{steps:?}");
    assert_eq!(steps.last(), Some(&400));
    assert!(out.join("polls.20.jsonl").is_file(), "no file was turned over");
}

#[test]
fn watch_reads_the_output_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = eam_config(folder.path(), 4, HOT);
    let mut run = lammps_otf()
        .current_dir(folder.path())
        .args(["-q", "run", "--json"])
        .arg(config)
        .args(["-o", "out"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let watch = lammps_otf().args(["watch", "-"]).stdin(run.stdout.take().unwrap()).output().unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&watch.stdout).lines().count(), 41, "{}", text(&watch));
    assert!(watch.stderr.is_empty(), "{}", text(&watch));
    let file = succeed(lammps_otf().args(["watch", "--once"]).arg(folder.path().join("out/polls.jsonl")));
    assert_eq!(file, String::from_utf8_lossy(&watch.stdout));
}

#[test]
fn poll_lines_match_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    heated_run(folder.path());
    let schema = json(&root().join("docs/polls.schema.json"));
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let poll = &lines(&folder.path().join("out/polls.jsonl"))[0];
    assert_eq!(keys(poll), keys(&schema["properties"]));
    assert_eq!(keys(&poll["gamma"]), keys(&schema["$defs"]["GammaSummary"]["properties"]));
    assert_eq!(keys(&poll["gamma"]["histogram"]), keys(&schema["$defs"]["GammaHistogram"]["properties"]));
}

#[test]
fn watch_draws_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    heated_run(folder.path());
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let mut watch = common::python();
    watch.args(["-c", spawn, env!("CARGO_BIN_EXE_lammps-otf"), "watch", "--once"]).arg(folder.path().join("out"));
    let said = succeed(watch.env("TERM", "xterm").stdin(Stdio::null()));
    assert!(said.contains("γ ") && said.contains('▁') && said.contains('█'), "{said}");
    assert!(said.trim_end().lines().last().unwrap().contains("step 400 "), "{said}");
}

#[test]
fn plots_of_extreme_numbers_are_finite() {
    let folder = tempfile::tempdir().unwrap();
    heated_run(folder.path());
    let out = folder.path().join("out");
    let mut polls = lines(&out.join("polls.jsonl"));
    let values = [0.0, -0.0, 1e308, -1e308, 1e-320, 1.0, 1.000_000_000_000_000_2, 5e15];
    for pair in 0..values.len() * values.len() {
        let (a, b) = (values[pair % values.len()], values[pair / values.len()]);
        for (k, poll) in polls.iter_mut().enumerate() {
            let value = if k % 2 == 0 { a } else { b };
            for key in ["time", "temperature", "total_energy"] {
                poll[key] = value.into();
            }
            for key in ["max", "q50", "q90", "q99"] {
                poll["gamma"][key] = value.into();
            }
            poll["gamma"]["histogram"] = serde_json::json!({"lowest": value, "counts": [1, u64::MAX, 0, 3]});
            poll["gamma"]["above_low"] = u64::MAX.into();
        }
        let text: String = polls.iter().map(|poll| format!("{poll}\n")).collect();
        std::fs::write(out.join("polls.jsonl"), text).unwrap();
        let mut report = common::limited(env!("CARGO_BIN_EXE_lammps-otf"));
        report.args(["-q", "report"]).arg(&out);
        let done = report.arg("--plots").arg(folder.path().join("plots")).output().unwrap();
        // A plot that cannot be drawn may be rejected with its name; nothing hangs or panics.
        let code = done.status.code();
        assert!(code == Some(0) || code == Some(2), "{a} and {b}: {code:?}\n{}", common::text(&done));
    }
}
