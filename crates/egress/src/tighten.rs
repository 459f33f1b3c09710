//! Policies that are published while the session runs: they come in parts, and deny from then on.

use std::sync::Arc;

use stockade_policy::{Origin, Source};
use tokio::sync::mpsc;

use crate::{Proxy, limits::LAYER_BYTES_MAX, wire::LayerPart};

/// Takes in policies until the control connection ends, or one cannot be used: then nothing may pass any
/// more, and whoever waits for this ends the session.
pub(crate) async fn serve(proxy: Arc<Proxy>, mut parts: mpsc::Receiver<Option<LayerPart>>) {
    let mut text = String::new();
    while let Some(part) = parts.recv().await {
        let Some(part) = part else {
            proxy.judge.tighten(None);
            continue;
        };
        if text.len() + part.text.len() > LAYER_BYTES_MAX {
            return;
        }
        text.push_str(&part.text);
        if !part.is_last {
            continue;
        }
        let layer = Source {
            origin: Origin::Organisation,
            name: part.name,
            text: std::mem::take(&mut text),
        };
        // The supervisor has loaded the same, so it is one.
        let Ok(newer) = proxy.judge.with_layer(part.before.as_deref(), layer) else {
            return;
        };
        proxy.judge.tighten(Some(newer));
        proxy.supervisor.judge_again();
    }
    // The connection is gone, and the process ends by that.
    std::future::pending::<()>().await;
}
