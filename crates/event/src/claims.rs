//! The kinds of events that are claims: what agents and models said, and what becomes known by it.

/// Adds these kinds to those that it is given, which are the closed set together.
macro_rules! with_claims {
    ($events:ident! { $($kinds:tt)* }) => {
        $events! {
            $($kinds)*
            /// A model was called, and its answer has ended. What was asked and answered are claims of the
            /// program and the service, read while the bytes passed; no decision rests on them.
            "model.called" ModelCalled {
                /// The program that called it.
                @beside process: Subject,
                /// Where the claims were learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request, if it was seen.
                decision: Option<DecisionId>,
                /// Canonical name or address.
                host: String,
                /// Port.
                port: u16,
                /// Whose protocol it is.
                provider: ModelProvider,
                /// The form of the call.
                api: ModelApi,
                /// The model that was asked for.
                model_asked: Option<RawText>,
                /// The model that answered, as it says.
                model: Option<RawText>,
                /// The id of the answer.
                response_id: Option<RawText>,
                /// Status of HTTP, if there was an answer.
                status: Option<u16>,
                /// The answer was to come in pieces.
                streaming: bool,
                /// Tokens: `input` with those from a cache (`cached`) and into one (`cache_written`), `output` with
                /// those that the model kept for itself (`reasoning`).
                usage: ModelUsage,
                /// Why the answer ended, in the provider's word.
                finish: Option<RawText>,
                /// The kind of an error that it ended with, in the provider's word.
                error: Option<RawText>,
                /// Tools that the provider was allowed to run.
                hosted_declared: Vec<HostedToolSeen>,
                /// Tools that it ran, as it says.
                hosted_used: Vec<HostedToolSeen>,
                /// Names of the tools that the program runs itself.
                functions: Listed<RawText>,
                /// What was said since the model's last words: length and digest of each text.
                prompts: Listed<TextSeen>,
                /// What came of tool calls since then.
                results: Listed<ToolResultSeen>,
                /// Tool calls that the model asks for, those that were whole.
                calls: Listed<ToolCallSeen>,
                /// What the model said in text.
                said: Option<TextSeen>,
                /// Bytes of the body of the request.
                bytes_out: u64,
                /// Bytes of the body of the answer.
                bytes_in: u64,
                /// From the decision to the end, in milliseconds.
                duration_ms: u64,
                /// From the decision to the first byte of the body of the answer, in milliseconds.
                first_byte_ms: Option<u64>,
                /// `whole`, or `cut` if the answer or the call itself ended early.
                ended: CallEnd,
                /// What of it could not be read, and why.
                unread: Option<String>,
            }
            => model_line(&ModelCall {
                model: model.as_ref().or(model_asked.as_ref()),
                provider: *provider,
                usage,
                duration_ms: *duration_ms,
                finish: finish.as_ref(),
                error: error.as_ref().map(|error| (*status, error)),
                declared: hosted_declared,
                used: hosted_used,
                calls,
                ended: *ended,
                unread: unread.as_deref(),
            });
            target server(host, *port);
            closes true;
            /// A model was told what to do: by the person, or by the agent for it. A claim, as in
            /// `model.called`; its number is the `turn` of what comes of it.
            "prompt.submitted" PromptSubmitted {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request which carried it, if traffic did.
                decision: Option<DecisionId>,
                /// The model was offered no tools, as for a title or a summary: nothing comes of it.
                aside: bool,
                /// What was said, in the order in which it was; agents add texts of their own.
                parts: Listed<Said>,
            }
            => prompt_line(parts, *aside);
            /// A model asked its agent for a tool call. A claim, as in `model.called`.
            "tool.called" ToolCalled {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request whose answer asked for it, if traffic did.
                decision: Option<DecisionId>,
                /// Its id; ids can collide.
                id: RawText,
                /// The tool.
                name: RawText,
                /// Its arguments as JSON without blanks and with sorted members, or as they were sent.
                arguments: Option<Said>,
            }
            => tool_line(name, arguments.as_ref());
            /// An agent told its model what came of a tool call. A claim, as in `model.called`.
            "tool.returned" ToolReturned {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request which carried it, if traffic did.
                decision: Option<DecisionId>,
                /// The id of the call.
                id: RawText,
                /// The `tool.called` that it answers, if there is one.
                call: Option<u64>,
                /// What was said.
                text: Said,
                /// Whether the call failed, as a server of tools says.
                is_error: Option<bool>,
            }
            => format!("{id} returned {}{}", bytes(text.bytes), if *is_error == Some(true) { ", an error" } else { "" });
            /// An agent changed its plan, with a tool call. A claim, as in `model.called`.
            "plan.changed" PlanChanged {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request whose answer asked for the call, if traffic did.
                decision: Option<DecisionId>,
                /// The id of the call.
                id: RawText,
                /// The `tool.called` that changes it.
                call: Option<u64>,
                /// `replaced` if the steps are the whole plan, `added` or `updated` if they are some of it.
                change: PlanChange,
                /// The steps, in their order.
                steps: Listed<PlanStepSeen>,
            }
            => plan_line(*change, steps);
            /// A tool call started another agent: what the call says is what a model was told. A claim, as in
            /// `model.called`.
            "agent.started" AgentStarted {
                /// The agent that started it, and is it too, as far as processes go.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The `tool.called` that started it.
                call: u64,
                /// The `prompt.submitted` with which it began.
                prompt: u64,
            }
            => format!("for event {call}");
            /// Another agent's model asked for nothing more. A claim, as in `model.called`.
            "agent.ended" AgentEnded {
                /// The agent that started it.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The `tool.called` that started it.
                call: u64,
            }
            => format!("for event {call}");
            /// Another source made a claim that is in the record already. Where they differ, that is a finding.
            "claim.repeated" ClaimRepeated {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned this time.
                learned_from: ClaimSource,
                /// The event with the claim: a `prompt.submitted`, `tool.called` or `model.called`.
                claim: u64,
                /// They name the same commands and files, as far as both name some.
                agrees: bool,
            }
            => format!("event {claim}, by {learned_from}{}", if *agrees { "" } else { ", which differs" });
            /// Tools of a server were shown to a model for the first time, or accepted as they are now: later ones
            /// are compared with these. The server, its tools and what they say are claims, as in
            /// `model.called`.
            "tools.pinned" ToolsPinned {
                /// The agent.
                @beside process: Subject,
                /// Where it was learned.
                learned_from: ClaimSource,
                /// The decision that allowed the request which shows them, if it was seen.
                decision: Option<DecisionId>,
                /// The server, by the name that the agent has for it.
                server: RawText,
                /// Whose form they were read in, for example `messages`.
                form: String,
                /// The tools that are new or other ones.
                tools: Listed<ToolPin>,
                /// The answer that accepted them, if a person was asked.
                approval: Option<ApprovalId>,
            }
            => pins_line(server, tools);
            /// It became known which tool call a command of the agent is for.
            "scope.bound" ScopeBound {
                /// The command.
                scope: String,
                /// The process that began it.
                @beside process: Subject,
                /// The `tool.called`.
                call: u64,
                /// How that is known.
                certainty: Certainty,
            }
            => format!("{} is for event {call} ({certainty})", safe(scope));
        }
    };
}

pub(crate) use with_claims;
