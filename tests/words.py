"""The word list: turns of phrase that readers have to decode, verbs that begin a docstring, and words that are no names."""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """A turn of phrase to avoid; a space in `pattern` matches any white space."""

    pattern: str
    reason: str
    instead: str

    def expression(self) -> re.Pattern[str]:
        """Compile the pattern; a pattern without capital letters ignores case."""
        flags = re.MULTILINE | (0 if re.search("[A-Z]", self.pattern.replace(r"\A", "")) else re.IGNORECASE)
        return re.compile(self.pattern.replace(" ", r"\s+"), flags)


RIDDLE = "the reader has to find the noun"
ODD = "few engineers use this phrase"
VAGUE = "a number or a noun says more"
ONE_TERM = "one thing has one name everywhere"
SENTENCE_START = r"(?:\A|(?<=[.!?]\s)|(?<=\n\n))"

RULES = (
    Rule(rf"{SENTENCE_START}(?:What|Who|Whoever|Whatever|Whichever)\b(?![^.!?]*\?)", RIDDLE, "begin with the noun"),
    Rule(rf"{SENTENCE_START}(?:Likewise|Nothing|Nobody)\b", RIDDLE, "say what happens, and repeat the noun"),
    Rule(r"\blikewise\b", RIDDLE, "repeat what is meant, or 'also'"),
    Rule(r"\bwhoever\b", RIDDLE, "name the reader: the client, the owner, the caller"),
    Rule(r"\bthat is all\b", "it says nothing", "leave it out"),
    Rule(r"\b(?:after|for|in|before) so (?:long|many|much|often)\b", VAGUE, "after N minutes; N times"),
    Rule(r"\b(?:every|that|this) so many\b|\bso many\b(?! that)", VAGUE, "N, or name the count"),
    Rule(r"\bso much\b(?! that)", VAGUE, "give the amount"),
    Rule(
        r"\b(?:is|are|was|were|be|been|has you|have you|not|unless|once|as) told\b",
        ODD,
        "is reported, is configured, reads",
    ),
    Rule(r"\btell(?:s|ing)? (?:of|apart)\b|\btold (?:of|apart)\b", ODD, "report, distinguish"),
    Rule(r"\bhears? (?:of|how|that)\b|\blearns? of\b", ODD, "is notified, receives, reads"),
    Rule(r"(?<!with)(?<!under)\bstands?\b(?! for\b)(?!-)", ODD, "is, is listed, is stored"),
    Rule(r"\bl(?:ies|ie|ay)\b(?! within)", ODD, "is, is stored in, is located in"),
    Rule(r"\bgo(?:es|ing)? on\b", ODD, "continues, resumes"),
    Rule(r"\bcom(?:es|e|ing) to an end\b|\bcame to an end\b", ODD, "ends, exits, stops"),
    Rule(r"\bcom(?:es|e) to (?:nothing|nought)\b", ODD, "fails, has no effect"),
    Rule(r"\b(?:is|are|was|were) gone\b|\bgone with\b", ODD, "is deleted, no longer exists"),
    Rule(r"\banew\b|\bafresh\b", ODD, "again, from scratch, creates a new"),
    Rule(r"\b(?:is|are|what is|falls?) due\b", ODD, "is scheduled, must be sent now, expires"),
    Rule(r"\bcall(?:s|ed|ing)?(?: \w+)? off\b", ONE_TERM, "cancel"),
    Rule(r"\b(?:set|sets|setting|put|puts|putting)(?: \w+)? aside\b", ONE_TERM, "pause; save, keep"),
    Rule(r"\bheld[- ]out\b|\bhold(?:s|ing)? out\b", ONE_TERM, "validation (set, images, accuracy)"),
    Rule(r"\bfellows?\b", ONE_TERM, "ranks, the other processes"),
    Rule(r"\bcouriers?\b|\bdoorbells?\b|\bcompanions?\b", ONE_TERM, "delivery, notification, local worker"),
    Rule(r"\bas it stands\b|\bas things are\b", ODD, "now, in its present state"),
    Rule(
        r"\bwhere(?:to|of|by|from|in|upon|with)\b|\bthere(?:of|to|upon|in)\b|\bwhence\b|\bhereby\b",
        ODD,
        "name the thing",
    ),
    Rule(r"\b(?:must|may|can|cannot|to|could) be had\b", ODD, "is available"),
    Rule(
        r"\bof (?:ours|theirs|its own making)\b|\b(?:is|are|was|not) ours\b", RIDDLE, "of this project, of this service"
    ),
    Rule(r"\b(?:is|are|was|were|been) begun\b|\bbegun\b", ODD, "started"),
    Rule(r"\bfurther (?:on|along)\b|\bthe further\b|\bthe more\b[.;,]", RIDDLE, "say what grows or shrinks"),
    Rule(r"\bcomes? out\b|\bcame out\b", ODD, "results, returns"),
    Rule(r"\b(?:take|takes|took|taken) up\b", ODD, "resume, claim, start"),
    Rule(r"\btaken for dead\b|\btaken to be dead\b", ODD, "considered lost"),
    Rule(r"\bleav(?:es|e|ing) out of account\b|\bof no account\b", ODD, "ignores"),
    Rule(r"\bin no way\b|\bby no way\b|\bin vain\b", ODD, "not, never, without effect"),
    Rule(r"\bis meant\b|\bare meant\b", RIDDLE, "means, refers to"),
    Rule(r"\bhow (?:far|often|long) (?:it|a job|the job) is\b", ODD, "the progress of the job"),
    Rule(r"\bmak(?:e|es|ing) (?:up for|do)\b", ODD, "compensate"),
    Rule(r"\bknows? (?:of )?nothing\b|\bnothing but\b|\bnothing else\b", RIDDLE, "only"),
    Rule(r"\bfor good\b|\bfor all that\b|\ball the same\b|\bat that\b[.,;]", ODD, "permanently; still; leave it out"),
    Rule(r"\b(?:database|store|broker|service|index|server) (?:is|was|are) away\b", ODD, "is unavailable"),
)

VERBS = frozenset(
    """
    Abort Accept Acquire Add Adjust Admit Advance Allow Announce Answer Append Apply Arrange Ask Assemble Assert Assign
    Attach Attack Attempt Audit Augment Authenticate Average Await Begin Block Bound Break Broadcast Build Cache Calculate
    Call Cancel Change Check Choose Claim Clamp Classify Clean Clear Clip Clone Close Collect Combine Compare Compile
    Complete Compute Configure Confine Connect Construct Consume Continue Convert Copy Count Create Crop Cut Decide Declare
    Decode Decorate Decrease Defer Define Delete Deliver Demand Derive Describe Detach Detect Determine Digest Disable
    Discard Disconnect Display Distribute Divide Download Draw Drop Emit Enable Encode Encrypt End Enforce Enlarge Ensure Enter
    Escape Estimate Evaluate Examine Exclude Execute Exit Expand Expect Explain Export Extend Extract Fail Fetch Fill Filter
    Find Fine-tune Finish Fit Flip Flush Follow Forget Format Forward Free Freeze Gather Generate Get Give Group Guard Guess
    Halve Handle Hash Hide Hold Ignore Import Include Increase Increment Infer Initialise Initialize Insert Inspect Install
    Interpolate Invert Invoke Issue Iterate Join Judge Keep Kill Label Launch Leave Let Limit Link List Listen Load Lock Log
    Look Lower Make Map Mark Mask Match Measure Merge Migrate Mix Modify Mount Move Multiply Name Normalise Normalize Notice
    Notify Obtain Omit Open Order Overwrite Pack Pad Parse Partition Pass Pause Perform Permute Perturb Pick Place Plot Poll
    Pop Post Predict Prefer Prepare Prevent Print Process Produce Project Propose Protect Provide Prune Publish Pull Push Put
    Queue Raise Randomise Rank Reach Read Rebuild Receive Recompute Record Recover Redirect Reduce Refresh Refuse Register
    Reject Release Reload Remember Remove Rename Render Renew Repeat Replace Replay Report Request Require Reserve Reset
    Resize Resolve Respond Restart Restore Resume Retain Retrieve Retry Return Reuse Revert Revoke Rewind Roll Rotate Round
    Run Sample Save Scale Scan Schedule Search Seed Seek Select Send Separate Serialise Serialize Serve Set Shift Show
    Shuffle Sign Skip Sleep Smooth Solve Sort Split Start State Stop Store Stratify Stream Submit Subtract Suggest Sum
    Summarise Summarize Supervise Support Swap Switch Synchronise Tabulate Take Terminate Test Time Track Train Transform
    Translate Trim Truncate Try Turn Unpack Unwrap Update Upgrade Upload Use Validate Verify Visit Wait Wake Warn Watch Weigh
    Widen Wrap Write Yield
    """.split()  # noqa: SIM905 - a list of quoted words is harder to read
)
"""Base forms that may begin the docstring of a function or method. Add a verb when you need one."""

NO_NAMES = frozenset(
    """
    about above against alike along among around at away behind below beneath beside besides between beyond by during for
    from in inside into of off on onto outside over per since than through to toward under until up upon via whence whose
    with within without when where which who whom what why how asked begun bought brought built caught chosen cleaned
    dealt drawn driven eaten ended fallen fed felt fought found given gone grown heard held hidden hit judged kept known
    laid led left lent looked made marked meant met moved named ours paid picked proven said sent shown spent spoken
    stolen surveyed swept taken taught theirs thought thrown told understood untold waited wanted woken worn
    written yours
    """.split()  # noqa: SIM905 - a list of quoted words is harder to read
)
"""Lone prepositions, pronouns and participles, which do not say what a function, an attribute or a parameter is.

`before` and `after` are allowed: they name the two audits of a fine-tuning. So are `lost`, `seen`, `tried`, `untried` and
`broken`, which count images as `gained` does, `done`, which counts units beside `total`, and `out`, the folder for results.
"""

VERBS_WITH_FOR = frozenset({"Ask", "Look", "Wait"})
"""Verbs that `for` may follow; after others, as in "List for", the first word is a noun."""

NAMES_IN_ED = frozenset({"stratified"})
"""Names of public methods that scripts outside this repository call."""

VERBS_IN_ED = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "shed", "speed", "succeed"})
