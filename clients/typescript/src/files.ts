import { problemOf, type Fetch } from "./http.js";
import type { Parley } from "./parley.js";
import type { Attachment } from "./types.js";

interface Upload {
  id: string;
  url: string;
  method: string;
  headers: Record<string, string>;
}

const batchPause = 20;
const urlsAtOnce = 100;
const urlMargin = 30_000;

/** Attachments: bytes go to the storage itself, never through Parley. */
export class Files {
  private readonly urls = new Map<string, { url: string; until: number }>();
  private wanted = new Map<string, ((url: string | undefined) => void)[]>();

  constructor(private readonly chat: Parley, private readonly fetcher: Fetch) {}

  /** Uploads a file; its `id` goes into `send(…, { attachments: [id] })`. Rejects with a ParleyError. */
  async upload(file: Blob & { name?: string }, options: { filename?: string; contentType?: string } = {}): Promise<Attachment> {
    const filename = options.filename ?? file.name ?? "file";
    const contentType = options.contentType ?? (file.type || "application/octet-stream");
    const up = await this.chat.request<Upload>("POST", "/uploads", { filename, contentType, size: file.size });
    const res = await this.fetcher(up.url, { method: up.method, headers: up.headers, body: file, credentials: "omit" });
    if (!res.ok && res.status !== 412) throw await problemOf(res); // 412: an earlier try had arrived
    const done = await this.chat.request<Omit<Attachment, "filename">>("POST", `/uploads/${up.id}/complete`);
    return { ...done, id: up.id, filename };
  }

  /** Where an attachment can be fetched for some minutes; undefined if it is gone. Asked for in batches, kept until it expires. */
  url(id: string): Promise<string | undefined> {
    const known = this.urls.get(id);
    if (known && known.until > Date.now()) return Promise.resolve(known.url);
    return new Promise((resolve) => {
      if (this.wanted.size === 0) setTimeout(() => void this.fetch(), batchPause);
      this.wanted.set(id, [...(this.wanted.get(id) ?? []), resolve]);
    });
  }

  private async fetch(): Promise<void> {
    const { wanted } = this;
    this.wanted = new Map();
    const ids = [...wanted.keys()];
    while (ids.length > 0) {
      const some = ids.splice(0, urlsAtOnce);
      const found = await this.chat
        .request<{ data: { id: string; url: string; expiresAt: string }[] }>("POST", "/attachments/urls", { ids: some })
        .catch(() => ({ data: [] }));
      for (const f of found.data) this.urls.set(f.id, { url: f.url, until: Date.parse(f.expiresAt) - urlMargin });
      for (const id of some) for (const resolve of wanted.get(id)!) resolve(found.data.find((f) => f.id === id)?.url);
    }
  }
}
