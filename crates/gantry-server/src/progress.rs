//! Work that tells of its progress: pull, load and import stream one JSON object a line.

use crate::error::Result;
use crate::reply::{self, Response};
use bytes::Bytes;
use futures_util::stream;
use gantry_api::progress::Progress;
use std::io;
use std::pin::Pin;
use tokio::sync::mpsc;

type Work = Pin<Box<dyn Future<Output = gantry_engine::Result<()>> + Send>>;

/// Streams the lines that `work` sends. A failure before the first line is an error answer; one behind it is the
/// last line. The work lasts as long as the answer: a client that goes away ends it.
pub(crate) async fn respond(
    mut lines: mpsc::Receiver<Progress>,
    work: impl Future<Output = gantry_engine::Result<()>> + Send + 'static,
) -> Result<Response> {
    let mut work: Option<Work> = Some(Box::pin(work));
    let mut first = next(&mut lines, &mut work).await;
    if let Some(Step::Failed(error)) = first {
        return Err(error.into());
    }
    let pieces = stream::unfold((lines, work), move |(mut lines, mut work)| {
        let ready = first.take();
        async move {
            let step = match ready {
                Some(step) => step,
                None => next(&mut lines, &mut work).await?,
            };
            let line = match step {
                Step::Line(line) => *line,
                Step::Failed(error) => Progress::failure(error.message),
            };
            Some((io::Result::Ok(Bytes::from(line.line())), (lines, work)))
        }
    });
    Ok(reply::stream(reply::JSON, pieces))
}

enum Step {
    Line(Box<Progress>),
    Failed(gantry_engine::Error),
}

/// The next line; the work's failure comes behind its lines. `None` at the end.
async fn next(lines: &mut mpsc::Receiver<Progress>, work: &mut Option<Work>) -> Option<Step> {
    if let Some(running) = work {
        let done = tokio::select! {
            biased;
            Some(line) = lines.recv() => return Some(Step::Line(Box::new(line))),
            done = running => done,
        };
        *work = None;
        if let Err(error) = done {
            // What was said before the failure goes first; the failure waits as work that is done.
            let Ok(line) = lines.try_recv() else {
                return Some(Step::Failed(error));
            };
            *work = Some(Box::pin(std::future::ready(Err(error))));
            return Some(Step::Line(Box::new(line)));
        }
    }
    let line = lines.try_recv().ok()?;
    Some(Step::Line(Box::new(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_engine::Error;
    use http::StatusCode;
    use http_body_util::BodyExt;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn lines_then_the_end() {
        let (sender, lines) = mpsc::channel(2);
        let response = respond(lines, async move {
            for n in 0..5 {
                let _ = sender.send(Progress::status(n.to_string())).await;
            }
            Ok(())
        });
        let text = text(response.await.unwrap()).await;
        assert_eq!(text.matches("status").count(), 5, "{text}");
        assert!(text.ends_with("{\"status\":\"4\"}\r\n"), "{text}");
    }

    #[tokio::test]
    async fn a_failure_before_the_first_line_is_an_error_answer() {
        let (_sender, lines) = mpsc::channel(2);
        let failed = respond(lines, async { Err(Error::not_found("no such thing")) });
        let error = failed.await.err().unwrap();
        assert_eq!(error.status, StatusCode::NOT_FOUND);
        assert_eq!(error.message, "no such thing");
    }

    #[tokio::test]
    async fn a_failure_behind_a_line_is_the_last_line() {
        let (sender, lines) = mpsc::channel(8);
        let response = respond(lines, async move {
            let _ = sender.send(Progress::status("one")).await;
            let _ = sender.send(Progress::status("two")).await;
            Err(Error::system("broken"))
        });
        assert_eq!(
            text(response.await.unwrap()).await,
            "{\"status\":\"one\"}\r\n{\"status\":\"two\"}\r\n\
             {\"errorDetail\":{\"message\":\"broken\"},\"error\":\"broken\"}\r\n"
        );
    }

    #[tokio::test]
    async fn work_without_a_word_is_an_empty_answer() {
        let (sender, lines) = mpsc::channel(8);
        let response = respond(lines, async move {
            drop(sender);
            Ok(())
        });
        assert_eq!(text(response.await.unwrap()).await, "");
    }
}
