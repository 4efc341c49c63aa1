// The protocol and the page's own records, for `tsc --checkJs`; nothing of it is loaded.
export type Lang = "en" | "zh";
export type Mark = "yes" | "tight" | "no" | "unknown" | null;
export type Words = Record<string, string>;
export type Values = Record<string, string>;
export type Change = Record<string, unknown>;

export interface Setting {
  name: string;
  label: string;
  flag: string;
  kind: string;
  help: string;
  least?: number | null;
  most?: number | null;
  choices: string[];
  known?: string[];
  default: unknown;
  slider: { scale: string; least: number; most: number } | null;
  engines: string[];
  when?: Record<string, string[]> | null;
}
export interface Section { name?: string; label: string; settings: Setting[] }
export interface Tab { name: string; label: string; sections: Section[] }
export interface Option { name: string; label: string; spellings: string[]; parameters?: number | null; makes?: string; memory?: number | null; count?: number }
export interface Form {
  tabs: Tab[];
  models: Option[];
  gpus: Option[];
  engines: { name: string; reads?: string[] }[];
  version: string;
  words: Words;
  launches: { words: string[]; snippets: string[] };
  parts: Record<string, string>;
  roles: string[];
  styles: Record<string, number>;
  bits: Record<string, number>;
}

export interface Cell { text: string; mark: Mark; tone: string }
export interface Column { head: string; right: boolean; folds: boolean; rank: number }
export interface Segment { key: string; name: string; nbytes: number; size: string }
export interface Bar {
  block: "bar"; segments: Segment[]; total: number; capacity: number | null; low: number; high: number;
  label: string; margin: string; legend: string; words: string;
}
export interface Headline {
  block: "headline"; verdict: string; figures: string; mark: Mark; margin: string; reason: string;
  needs: number | null; has: number | null;
}
export interface Grid {
  block: "grid"; columns: Column[]; rows: Cell[][]; heading: string; wide: boolean;
  actions?: (Change | null)[];
}
export interface Lines { block: "lines"; lines: Cell[]; heading: string }
export interface Paste { block: "paste"; heading: string; text: string; language: string }
export interface Note { block: "note"; text: string }
export type Block = Headline | Bar | Grid | Lines | Paste | Note;
export interface Screen { title: string; sections: Block[][]; footer: string[]; warnings: string[]; lang: string }

export interface Bytes { low: number; expected: number; high: number }
export interface Component { name: string; detail: string; level: string; bytes: Bytes; basis: string; formula: string; source: string; role: string; stays: boolean }
export interface Instant { name: string; bytes: Bytes; binds: string[]; components: Component[] }
export interface Device { index: number; kind: string; peak_phase: string; phases: Instant[] }
export interface Verdict { fits: string; tight?: boolean; usable_bytes: number; margin_bytes: number; per_device?: Bytes; accelerator: string; count: number }
export interface Remedy { change: Change; peak_bytes: number; fits: string; flags: string; cost: string; per_device?: Bytes | null; kind: string }
export interface Report { task: string; devices: Device[]; workload: Record<string, unknown>; derived: Record<string, any>; verdict: Verdict | null; remedies: Remedy[]; model: { name: string } }
export interface Question { task: string; method: string | null; verdict: Verdict | null; report: Report | null; remedies: Remedy[] }
export interface Rung {
  change: Change; format: string; bits: number | null; engine: string; accelerator: string; count: number; fits: string;
  peak_bytes: number; usable_bytes: number; margin_bytes: number; layers_on_card: number[] | null; largest_context: number | null;
}
export interface Fit { questions: Question[]; accelerators: { name: string }[]; ladder?: Rung[]; for: string; plan: Plan }
export interface Plan { fits: string; why: string; engine: string | null; format: string | null; peak_bytes: number | null; usable_bytes: number | null; tight?: boolean }
export interface Failure { code: number; message: string; setting?: string; wants?: string }

export interface Answer {
  report?: any; reports?: any[]; screen?: Screen; command?: string;
  error?: Failure; need?: { bytes: number }; file?: string; labels?: string[]; prices?: string[][];
}
export interface Draft { repo_id: string; revision: string; title: string; text: string }
export interface Posting { draft?: Draft; posted?: { url: string; already: boolean }; error?: Failure }
export interface Ask { task: string; [key: string]: unknown }
export interface Engine { kind: "served" | "static" | "space"; ask(object: object, signal?: AbortSignal, part?: (part: Answer) => void): Promise<any> }
export type Progress = (text: string, share: number) => void;

export interface Listed { bytes: number; footer: number; sha256: string }
export interface AskedCard { typed: string; id: string; name: string; count: number }
export interface ScanQuestion {
  name: string; label: string; task: string; settings: Record<string, unknown>; card: AskedCard | null;
  engine: string | null; engine_version: string | null; context: number | null; usable: number | null;
  rows: number; verdicts: Record<string, number>;
}
export interface Published {
  schema: string; weighbridge: string; source: string; counts: { models: number; keys: number; unread: number };
  questions: ScanQuestion[]; files: Record<string, Listed>;
}
export interface Read { ids: string[]; keys: number[]; downloads: (number | null)[]; unread: (string | null)[] }
export interface OneAnswer { fits: string | null; need: number | null; low: number; high: number; reason: string | null }
export type Answers = Map<number, OneAnswer>;

export interface Variant { model: string; given: Values }
export interface State {
  task: string; model: string; given: Values; beside: Variant[]; of: string;
  lang: Lang; unit: string; details: boolean; file: string; strange: string[];
}
export interface Dropped { name: string; model: object; file: File | null; key: string }
export interface Pasted { name: string; text: string }
export interface Shown { key: string; task: string; lang: Lang; answer: Answer; ask: Ask }
