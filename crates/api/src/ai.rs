//! Workers AI over the REST API. <https://developers.cloudflare.com/api/resources/ai/>

use skep_ai::{AiBinding, Endpoint};

use crate::call::Call;
use crate::reply::Answer;

/// What the account has under way over the API is bounded as it is for a script.
fn models(call: &Call) -> AiBinding {
    call.api.platform.ai().binding(&format!("{} over the API", call.token.account))
}

pub(crate) async fn run(mut call: Call) -> Answer {
    let (ai, model, body) = (models(&call), call.param(0).to_owned(), call.take_body());
    Ok(ai.rest_run(&model, http::Request::from_parts(call.head, body)).await)
}

pub(crate) async fn search(call: Call) -> Answer {
    Ok(models(&call).rest_models(call.head.uri.query()).await)
}

async fn openai(mut call: Call, endpoint: Endpoint) -> Answer {
    let (ai, body) = (models(&call), call.take_body());
    Ok(ai.rest_openai(endpoint, http::Request::from_parts(call.head, body)).await)
}

/// <https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/>
pub(crate) async fn chat_completions(call: Call) -> Answer {
    openai(call, Endpoint::Chat).await
}

pub(crate) async fn embeddings(call: Call) -> Answer {
    openai(call, Endpoint::Embeddings).await
}

pub(crate) async fn responses(call: Call) -> Answer {
    openai(call, Endpoint::Responses).await
}
