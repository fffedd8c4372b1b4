import { dialog, h } from "./dom.js";

/** Reactions that are one click away. */
export const quick = ["👍", "❤️", "😂", "🎉"];
const all = [...quick, ..."😀😊😍🥰😎🤔😮😢😭😡🙄🤯🥳😴🤝👏🙏💪👀👋👎✅❌💯🔥⭐🚀💡🐛☕"];

/** Lets one choose among more reactions. */
export function chooseReaction(choose: (reaction: string) => void): void {
  const box = dialog("Add a reaction", h("div", { class: "emoji" }, all.map((e) => h("button", { type: "button", class: "icon-button", "aria-label": `React with ${e}`, onclick: () => {
    box.close();
    choose(e);
  } }, e))));
}
