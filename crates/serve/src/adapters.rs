//! `POST /v1/adapters` and `DELETE /v1/adapters/{name}`: adapters that come and go while the server runs.

use std::any::Any;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, Response, StatusCode};
use serde_json::json;

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::driver::Command;
use crate::{Loader, ModelInfo, models, sse};

/// A [`Loader`] whose model's type only the engine's thread knows.
pub(crate) type AnyLoader =
    Box<dyn Fn(&str, &FilePath) -> Result<(Box<dyn Any + Send>, ModelInfo), String> + Send + Sync>;

/// Hides the type of a loader's models.
pub(crate) fn any<M: Send + 'static>(loader: Loader<M>) -> AnyLoader {
    Box::new(move |name, path| {
        let (model, info) = loader(name, path)?;
        Ok((Box::new(model) as Box<dyn Any + Send>, info))
    })
}

/// The longest name of an adapter, in bytes.
const MAX_NAME: usize = 128;

/// Adds an adapter.
pub(crate) async fn add(State(app): State<Arc<App>>, request: Request<Body>) -> ApiResult<Response<Body>> {
    enabled(&app)?;
    let mut fields = app.read(request, app.deadline()).await?;
    let (name, path) = (fields.required_text("name")?, fields.required_text("path")?);
    fields.finish(&[])?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = format!("a name has 1 to {MAX_NAME} bytes and no control character");
        return Err(ApiError::invalid("name", message));
    }
    let _changing = app.adapters.lock().await;
    if app.model(&name).is_ok() {
        let message = format!("there is a model `{name}` already");
        return Err(ApiError::refused(StatusCode::CONFLICT, "model_exists", message).about("name"));
    }
    let wanted = name.clone();
    let loaded = app.compute(move |app| load(app, &wanted, &path)).await?;
    let (model, info) = loaded;
    let command = |reply| Command::AddModel { name: name.clone(), model, reply };
    app.engine.ask(command).await?.map_err(|error| ApiError::invalid("path", error.to_string()))?;
    let info = Arc::new(ModelInfo { name, is_adapter: true, ..info });
    app.change_models(|models| models.push(Arc::clone(&info)));
    Ok(sse::json(&models::shown(&info)))
}

/// Removes an adapter. Its running requests are the engine's to end.
pub(crate) async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>) -> ApiResult<Response<Body>> {
    enabled(&app)?;
    let _changing = app.adapters.lock().await;
    if !app.model(&name)?.is_adapter {
        return Err(ApiError::invalid("name", format!("`{name}` is the base model, which can't be removed")));
    }
    app.change_models(|models| models.retain(|model| model.name != name));
    app.engine.ask(|reply| Command::RemoveModel { name: name.clone(), reply }).await?;
    Ok(sse::json(&json!({"id": name, "object": "model", "deleted": true})))
}

fn enabled(app: &App) -> ApiResult<()> {
    match (&app.adapters_folder, &app.loader) {
        (Some(_), Some(_)) => Ok(()),
        _ => {
            let message = "this server's adapters are fixed: it was started without a folder of adapters";
            Err(ApiError::refused(StatusCode::FORBIDDEN, "adapters_fixed", message))
        }
    }
}

fn load(app: &App, name: &str, path: &str) -> ApiResult<(Box<dyn Any + Send>, ModelInfo)> {
    let (Some(folder), Some(loader)) = (&app.adapters_folder, &app.loader) else {
        return enabled(app).and(Err(ApiError::server("no loader")));
    };
    let path = inside(folder, path)?;
    let (model, info) = loader(name, &path).map_err(|why| ApiError::invalid("path", why))?;
    info.defaults.check()?;
    Ok((model, info))
}

/// A path inside the folder, with every link resolved. What lies outside and what does not exist is not told apart.
fn inside(folder: &FilePath, path: &str) -> ApiResult<PathBuf> {
    let resolved = folder.join(path).canonicalize().ok();
    resolved
        .filter(|resolved| resolved.starts_with(folder))
        .ok_or_else(|| ApiError::invalid("path", format!("there is no `{path}` in the folder of adapters")))
}
